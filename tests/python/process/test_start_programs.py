"""Programs whose workers start under hard conditions: each in an interpreter of its own."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from programs import Program, run

import raddle

POOL = "pool = futures.ProcessPoolExecutor(2)\n"


def script(folder: Path, text: str, *options: str) -> list[str]:
    """Run a program from a file; the lines that it writes."""
    file = folder / "program.py"
    file.write_text(text)
    command = [sys.executable, *options, str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout.splitlines()


def gone(pid: int) -> None:
    """Wait for the end of a process that is not a child."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        assert poll.poll(45_000), f"process {pid} does not end"
    finally:
        os.close(watched)


def test_a_killed_program_takes_template_and_workers_along_though_its_child_lives() -> None:
    source = f"""
        {POOL}
        template, worker = pool.submit(os.getppid).result(), pool.submit(os.getpid).result()
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)  # It lives on, and has all that the program had open.
            sys.stdin.readline()
            os._exit(0)
        say(template, worker)
        time.sleep(1000)
    """
    with Program("raddle", source) as program:
        template, worker = map(int, program.read().split())
        program._process.kill()
        gone(template)
        gone(worker)


def test_a_program_that_ends_without_ado_takes_its_workers_along() -> None:
    source = f"""
        {POOL}
        say(pool.submit(os.getppid).result(), pool.submit(os.getpid).result())
        pool.submit(time.sleep, 1000)
        os._exit(3)
    """
    with Program("raddle", source) as program:
        pids = [int(pid) for pid in program.read().split()]
        assert program.wait() == 3
        for pid in pids:
            gone(pid)


def test_a_forked_child_makes_a_template_of_its_own_and_leaves_the_parents_alone() -> None:
    source = f"""
        {POOL}
        ours = pool.submit(os.getppid).result()
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Of threads.
        child = os.fork()
        if child == 0:
            with futures.ProcessPoolExecutor(1) as own:
                theirs = own.submit(os.getppid).result()
            del pool
            os._exit(0 if theirs not in (ours, os.getppid()) else 1)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        say(pool.submit(os.getppid).result() == ours)
        pool.shutdown()
    """
    assert run("raddle", source) == (0, ["0", "True"], [])


def test_a_worker_may_have_a_pool_of_its_own() -> None:
    source = f"""
        {POOL}
        def inner():
            import os, raddle
            with raddle.ProcessPoolExecutor(1) as pool:
                return os.getpid(), pool.submit(pow, 2, 5).result()
        pid, value = pool.submit(inner).result()
        say(pid != os.getpid(), value)
        pool.shutdown()
    """
    assert run("raddle", source) == (0, ["True 32"], [])


def test_ctrl_c_while_the_template_starts_does_not_end_it() -> None:
    source = f"""
        seen = []
        signal.signal(signal.SIGINT, lambda *_: seen.append(1))
        {POOL}
        os.killpg(0, signal.SIGINT)
        say(pool.submit(pow, 2, 5).result(), len(seen))
        pool.shutdown()
    """
    assert run("raddle", source) == (0, ["32 1"], [])


@pytest.mark.parametrize("closed", ["0", "1", "2", "0, 1, 2"])
def test_standard_streams_may_be_closed(closed: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    source = f"""
        for descriptor in ({closed},):
            os.close(descriptor)
        {POOL}
        with open({str(told)!r}, "w") as file:
            print(list(pool.map(abs, [-1, -2])), file=file)
        pool.shutdown()
        os._exit(0)
    """
    with Program("raddle", source) as program:
        assert program.wait() == 0
    assert told.read_text() == "[1, 2]\n"


def test_what_the_program_does_with_signals_does_not_stop_its_workers() -> None:
    source = f"""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()))
        {POOL}
        def look():
            import signal
            return signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, [])
        handler, blocked = pool.submit(look).result()
        say(handler == signal.SIG_DFL, len(blocked))
        pool.shutdown()
    """
    assert run("raddle", source) == (0, ["True 0"], [])


def test_options_of_the_interpreter_are_those_of_the_program(tmp_path: Path) -> None:
    text = """
import sys, raddle
def look():
    import sys
    return (tuple(sys.flags), sys.warnoptions, sys._xoptions)
with raddle.ProcessPoolExecutor(1) as pool:
    print(pool.submit(look).result() == look())
"""
    options = ("-OO", "-B", "-W", "error::UserWarning", "-X", "dev", "-X", "utf8=1", "-q")
    assert script(tmp_path, text, *options) == ["True"]


def test_an_isolated_interpreter_has_isolated_workers(tmp_path: Path) -> None:
    home = Path(raddle.__file__).parent.parent
    paths = [str(home), *[path for path in sys.path if "site-packages" in path]]
    text = f"""
import sys
sys.path[:0] = {paths!r}
import raddle
def look():
    import sys
    return tuple(sys.flags), sys.path
with raddle.ProcessPoolExecutor(1) as pool:
    print(pool.submit(look).result() == look())
"""
    assert script(tmp_path, text, "-I", "-S") == ["True"]


@pytest.mark.parametrize("name", ["select", "collections", "_socket", "raddle", "functools"])
def test_files_of_the_working_directory_are_not_imported(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by mistake')\n")
    place = tmp_path / "scripts"
    place.mkdir()
    text = """
import raddle
with raddle.ProcessPoolExecutor(1) as pool:
    print(pool.submit(pow, 2, 5).result())
"""
    (place / "program.py").write_text(text)
    command = [sys.executable, "scripts/program.py"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "32\n", "")


def test_multiprocessing_that_is_loaded_late_has_the_workers_key() -> None:
    source = f"""
        {POOL}
        def key():
            import multiprocessing
            return bytes(multiprocessing.current_process().authkey)
        theirs = pool.submit(key).result()
        say(theirs == key())
        pool.shutdown()
    """
    assert run("raddle", source) == (0, ["True"], [])


def test_a_proxy_of_a_manager_works_in_a_worker(tmp_path: Path) -> None:
    text = """
import raddle
def put(shared, key):
    shared[key] = key * 2
if __name__ == "__main__":
    with raddle.ProcessPoolExecutor(2) as pool:
        pool.submit(pow, 1, 1).result()
        from multiprocessing import Manager
        with Manager() as manager:
            shared = manager.dict()
            list(pool.map(put, [shared] * 4, range(4)))
            print(sorted(shared.items()))
"""
    assert script(tmp_path, text) == ["[(0, 0), (1, 2), (2, 4), (3, 6)]"]


def test_importing_the_package_starts_nothing() -> None:
    source = """
        say(len(os.listdir("/proc/self/task")))
        say(open(f"/proc/self/task/{os.getpid()}/children").read() == "")
        futures.ProcessPoolExecutor
        say(len(os.listdir("/proc/self/task")))
        say(open(f"/proc/self/task/{os.getpid()}/children").read() == "")
    """
    assert run("raddle", source) == (0, ["1", "True", "1", "True"], [])


AWAITED = """
from raddle._imports import after_import

for name in ("one", "other"):
    after_import("colorsys", lambda module, name=name: print(name, module.__name__))
import colorsys
after_import("colorsys", lambda module: print("it is there"))
"""


def test_several_can_wait_for_the_same_module(tmp_path):
    assert script(tmp_path, AWAITED) == ["one colorsys", "other colorsys", "it is there"]

"""What a worker is when it starts, and what becomes of it, by each way of starting one."""

from __future__ import annotations

import contextvars
import functools
import multiprocessing
import multiprocessing.spawn
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from start_remote import KINDS, Crew, changed, obey

from raddle import _launch, _launch_template, _native, _template_process
from raddle._budget import SHARE, THREAD_VARIABLES

Make = Callable[..., Crew]
VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.fixture
def crews() -> Iterator[list[Crew]]:
    """All crews of the test, ended with it."""
    made: list[Crew] = []
    yield made
    for crew in made:
        crew.__exit__(None, None, None)


@pytest.fixture
def make(crews: list[Crew], tmp_path: Path) -> Make:
    """Makes crews by the template."""

    def make(**more: Any) -> Crew:
        crews.append(Crew(tmp_path, **more))
        return crews[-1]

    return make


@pytest.fixture(params=KINDS)
def make_any(request: pytest.FixtureRequest, make: Make) -> Make:
    """Makes crews in each way in turn."""
    return lambda **more: make(kind=request.param, **more)


def descriptors() -> set[str]:
    """What this process has open, but for the look itself."""
    seen = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            seen.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            pass
    return seen


def children() -> set[int]:
    """The processes that this one has started and not waited for."""
    folder = Path("/proc/self/task")
    return {
        int(pid) for task in folder.iterdir() for pid in (task / "children").read_text().split()
    }


# --- By each way -----------------------------------------------------------------------------


def test_a_worker_that_leaves_ends_with_its_exit_code(make_any: Make) -> None:
    crew = make_any()
    remote = crew.start()
    process = crew.launcher.processes[remote.pid]
    assert (process.pid, process.is_alive(), process.exitcode) == (remote.pid, True, None)
    remote.leave()
    code, _, stack = crew.reap(remote.pid)
    assert (code, stack) == (1, None)
    process.join()
    assert (process.is_alive(), process.exitcode) == (False, 1)
    assert crew.launcher.processes == {}


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_worker_can_be_killed_and_terminated(make_any: Make, how: str) -> None:
    crew = make_any()
    remote = crew.start()
    process = crew.launcher.processes[remote.pid]
    getattr(process, how)()
    process.join()
    wanted = -signal.SIGKILL if how == "kill" else -signal.SIGTERM
    assert process.exitcode == wanted
    assert crew.reap(remote.pid)[0] == wanted
    process.kill()


def test_a_worker_that_does_not_end_can_be_waited_for_a_while(make_any: Make) -> None:
    crew = make_any()
    process = crew.launcher.processes[crew.start().pid]
    process.join(0.01)
    assert process.is_alive()


def test_a_worker_ignores_ctrl_c(make_any: Make) -> None:
    remote = make_any().start()
    os.kill(remote.pid, signal.SIGINT)
    assert remote("1 + 1") == 2
    assert remote("__import__('signal').pthread_sigmask(0, []) == set()")


def test_tasks_run_on_the_main_thread(make_any: Make) -> None:
    remote = make_any(setup="import threading").start()
    assert remote("threading.current_thread() is threading.main_thread()")


def test_the_stack_of_a_crash_is_kept(make_any: Make) -> None:
    crew = make_any(setup="import ctypes\ndef crash_here():\n    ctypes.string_at(0)\n")
    remote = crew.start()
    remote.begin("crash_here()")
    code, _, stack = crew.reap(remote.pid)
    assert code == -signal.SIGSEGV
    assert stack is not None and "crash_here" in stack and "obey" in stack


@pytest.mark.parametrize("kind", ["template", "fork", "spawn"])
def test_the_peak_of_memory_is_told(make: Make, kind: str) -> None:
    crew = make(kind=kind)
    remote = crew.start()
    size = 96 << 20
    assert remote(f"len(bytes(b'x' * {size}))") == size
    remote.leave()
    memory = crew.reap(remote.pid)[1]
    assert memory is not None and size <= memory < 64 * size


def test_random_numbers_differ_from_worker_to_worker(make_any: Make) -> None:
    crew = make_any(setup="import random")
    drawn = {crew.start()("random.random()") for _ in range(2)}
    assert len(drawn) == 2


def test_random_numbers_of_numpy_are_seeded_anew_after_a_fork(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module in the place of numpy's, which need not be here: what counts is that it is told.
    module = ModuleType("numpy.random")
    seeds: list[int] = []
    module.seed = lambda: seeds.append(os.getpid())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numpy.random", module)
    remote = make(kind="fork", setup="import sys").start()
    told = "[cell.cell_contents for cell in sys.modules['numpy.random'].seed.__closure__]"
    assert remote(told) == [[remote.pid]]
    assert seeds == []


def test_program_and_workers_have_one_key(make_any: Make) -> None:
    remote = make_any(setup="import multiprocessing").start()
    key = bytes(multiprocessing.current_process().authkey)
    assert remote("bytes(multiprocessing.current_process().authkey)") == key


def test_a_worker_knows_that_it_is_one(make_any: Make) -> None:
    remote = make_any(setup="import multiprocessing").start()
    assert remote("multiprocessing.current_process().name") != "MainProcess"
    assert remote("multiprocessing.parent_process().pid") == os.getpid()
    assert remote("multiprocessing.parent_process().is_alive()")


def test_context_variables_are_found_by_name(make_any: Make) -> None:
    crew = make_any(inherit_context=[VARIABLE])
    names = _launch._names_of([VARIABLE], has_main=False)
    assert names == [(__name__, "VARIABLE")]
    assert crew.start()("1")


def test_nothing_is_left_of_workers_and_launcher(make_any: Make) -> None:
    warm = make_any()
    warm.start()
    warm.__exit__(None, None, None)
    before, running = descriptors(), children()
    crew = make_any()
    for _ in range(2):
        crew.start()
    crew.__exit__(None, None, None)
    assert descriptors() == before
    assert children() == running


# --- By the template -------------------------------------------------------------------------


def test_a_worker_sees_what_the_program_saw_when_the_pool_was_made(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = make(setup="import os, sys")
    monkeypatch.setenv("PATH_OF_TEST", "then \udcff")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("/then")
    monkeypatch.setattr(sys, "argv", ["then", "--option"])
    crew = make(setup="import os, sys")
    # But for what holds its libraries to its share of the cores.
    own = {name: "1" for name in (*THREAD_VARIABLES, SHARE) if name not in os.environ}
    wanted = ({**own, **os.environ}, list(sys.path), sys.argv, os.getcwd())
    monkeypatch.setenv("PATH_OF_TEST", "now")
    monkeypatch.chdir("/")
    monkeypatch.syspath_prepend("/now")
    monkeypatch.setattr(sys, "argv", ["now"])
    seen = "(dict(os.environ), sys.path, sys.argv, os.getcwd())"
    assert crew.start()(seen) == wanted
    assert first.start()("os.environ.get('PATH_OF_TEST')") is None


def test_the_working_directory_may_be_gone(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place, told = tmp_path / "gone", tmp_path / "told"
    place.mkdir()
    monkeypatch.chdir(place)
    # By value, and of builtins alone: CPython 3.13 fails to import much where there is no folder.
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "def tell(address, told):\n"
        "    import posix\n"
        "    with open(told, 'w') as file: file.write(str(posix.listdir('.')))\n"
        "    raise SystemExit",
        names,
    )
    crew = make(initializer=names["tell"], setup=str(told))
    place.rmdir()
    pid, watched = crew.launcher.start(0, 0)
    crew.watched[pid] = watched
    crew.reap(pid)
    assert told.read_text() == "[]"


def test_a_worker_reads_nothing_and_writes_where_the_program_did(
    make: Make, tmp_path: Path
) -> None:
    kept = os.dup(1)
    with open(tmp_path / "out", "w") as out:
        os.dup2(out.fileno(), 1)
        try:
            crew = make(setup="import os, sys")
        finally:
            os.dup2(kept, 1)
            os.close(kept)
    remote = crew.start()
    assert remote("sys.stdin.read()") == ""
    assert remote("print('by print, not flushed')") is None
    remote.leave()
    crew.reap(remote.pid)
    assert (tmp_path / "out").read_text() == "by print, not flushed\n"


def test_the_main_module_of_a_worker_is_empty(make: Make) -> None:
    remote = make(setup="import sys").start()
    names = remote("[name for name in vars(sys.modules['__main__']) if name[0] != '_']")
    assert names == []
    assert remote("sys.modules['__main__'].__name__") == "__main__"


def test_a_worker_holds_only_what_is_its_own(make: Make) -> None:
    make().start()
    crew = make(setup="import os")
    crew.start()
    remote = crew.start()
    look = """[(n, os.readlink(f'/proc/self/fd/{n}')) for n in range(3, 999)
               if os.path.lexists(f'/proc/self/fd/{n}')]"""
    held = remote(look.replace("\n", ""))
    kinds = [
        re.sub(r":\[\d+\]| \(deleted\)", "", what) for n, what in held if n not in bequeathed()
    ]
    # Its stack, the mapping, the bell, the line to the template and that to this test, and what
    # multiprocessing calls the parent's sentinel, because the module of this line imports it.
    wanted = [
        "/memfd:raddle",
        "/memfd:test",
        "anon_inode:[eventfd]",
        "anon_inode:[pidfd]",
        "socket",
        "socket",
    ]
    assert sorted(kinds) == wanted


def bequeathed() -> set[int]:
    """What whoever started this process gave to it and everything that it starts."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    open_ones = [number for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")]
    return {number for number in open_ones if os.get_inheritable(number)}


def test_the_template_has_one_thread(make: Make) -> None:
    remote = make(setup="import os").start()
    template = remote("os.getppid()")
    assert template != os.getpid()
    assert len(os.listdir(f"/proc/{template}/task")) == 1


def test_pools_share_a_template_and_so_does_the_next(make: Make) -> None:
    one, other = make(setup="import os"), make(setup="import os")
    template = one.start()("os.getppid()")
    assert other.start()("os.getppid()") == template
    one.__exit__(None, None, None)
    assert other.start()("os.getppid()") == template
    other.__exit__(None, None, None)
    assert make(setup="import os").start()("os.getppid()") == template


def test_a_program_that_changed_what_its_children_inherit_gets_another_template(make: Make) -> None:
    first = make(setup="import os")
    template = first.start()("os.getppid()")
    before = os.umask(0o31)
    try:
        changed_one = make(setup="import os").start()
        assert changed_one("os.umask(0)") == 0o31
    finally:
        os.umask(before)
    assert changed_one("os.getppid()") != template
    # Who has the old one keeps it; it ends with the last of them.
    assert first.start()("os.getppid()") == template
    first.__exit__(None, None, None)
    assert not os.path.exists(f"/proc/{template}")


def test_workers_die_with_the_template_and_the_next_has_another(make: Make) -> None:
    crew = make(setup="import os")
    remote = crew.start()
    template = remote("os.getppid()")
    os.kill(template, signal.SIGKILL)
    assert crew.reap(remote.pid) == (-signal.SIGKILL, None, None)
    assert crew.start()("os.getppid()") != template


def test_ctrl_c_does_not_end_the_template(make: Make) -> None:
    crew = make(setup="import os")
    template = crew.start()("os.getppid()")
    os.kill(template, signal.SIGINT)
    assert crew.start()("os.getppid()") == template


def test_a_worker_ends_as_an_interpreter_does(make: Make, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    setup = f"""
import atexit, threading, multiprocessing.util
def note(what):
    with open({str(seen)!r}, "a") as file: file.write(what + "\\n")
atexit.register(note, "hook")
multiprocessing.util.Finalize(None, note, ["finalizer"], exitpriority=1)
gate = threading.Event()
threading.Thread(target=lambda: (gate.wait(), note("thread"))).start()
"""
    crew = make(setup=setup)
    remote = crew.start()
    remote("gate.set()")
    remote.leave()
    crew.reap(remote.pid)
    assert sorted(seen.read_text().split()) == ["finalizer", "hook", "thread"]


def test_an_end_that_goes_wrong_is_told(make: Make) -> None:
    crew = make(setup="import atexit\natexit.register(lambda: 1 / 0)")
    remote = crew.start()
    remote.leave()
    assert crew.reap(remote.pid)[0] == 1


def test_the_environment_does_not_leak_from_pool_to_pool(make: Make) -> None:
    with changed("ONLY_OF_THE_FIRST", "1"):
        first = make(setup="import os")
    second = make(setup="import os")
    assert first.start()("os.environ['ONLY_OF_THE_FIRST']") == "1"
    assert second.start()("'ONLY_OF_THE_FIRST' in os.environ") is False


def test_workers_run_on_the_cores_of_the_program(make: Make) -> None:
    all_cores = os.sched_getaffinity(0)
    first = make(setup="import os")
    os.sched_setaffinity(0, {min(all_cores)})
    try:
        second = make(setup="import os")
    finally:
        os.sched_setaffinity(0, all_cores)
    assert second.start()("os.sched_getaffinity(0)") == {min(all_cores)}
    assert first.start()("os.sched_getaffinity(0)") == all_cores


def test_a_worker_that_cannot_be_forked_is_told(make: Make) -> None:
    import resource

    crew = make(setup="import os")
    template = crew.start()("os.getppid()")
    before = resource.prlimit(template, resource.RLIMIT_NOFILE)
    resource.prlimit(template, resource.RLIMIT_NOFILE, (3, before[1]))
    with pytest.raises(OSError, match="could not be forked"):
        crew.launcher.start(1, 1)
    resource.prlimit(template, resource.RLIMIT_NOFILE, before)
    assert crew.start()("os.getppid()") == template


@pytest.mark.parametrize("room", [0, 1])
def test_a_program_without_room_for_a_descriptor_is_told(make: Make, room: int) -> None:
    import resource

    crew = make(setup="import os")
    template = crew.start()("os.getppid()")
    others = started_by(template) - set(crew.launcher.processes)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The numbers that are free are given to nobody but the new worker's descriptors.
    fillers = []
    try:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, hard))
        while True:
            try:
                fillers.append(os.dup(0))
            except OSError:
                break
        for _ in range(room):
            os.close(fillers.pop())
        with pytest.raises(OSError, match=r"too many|Too many"):
            crew.launcher.start(1, 1)
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # The worker that was started in vain has been seen off.
    crew.start()
    assert started_by(template) - others == set(crew.launcher.processes)


def started_by(template: int) -> set[int]:
    """The workers of a template, and templates that it has forked."""
    children = Path(f"/proc/{template}/task/{template}/children").read_text()
    return set(map(int, children.split()))


def test_limits_of_the_interpreter_are_those_of_the_program(make: Make) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 77)
    try:
        crew = make(setup="import sys")
    finally:
        sys.setrecursionlimit(before)
    assert crew.start()("sys.getrecursionlimit()") == before + 77


def test_an_interrupted_question_does_not_answer_the_next(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = make()
    first, second = crew.start(), crew.start()
    process = crew.launcher.processes[first.pid]
    first.leave()
    process.join()
    with monkeypatch.context() as patched:
        patched.setattr(_native, "receive_message", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.exitcode  # noqa: B018 - it asks
    second.begin("__import__('os')._exit(7)")
    assert crew.reap(second.pid)[0] == 7
    assert process.exitcode == 1
    assert crew.reap(first.pid)[0] == 1


def _interrupted(*_args: object) -> None:
    raise KeyboardInterrupt


def test_a_launcher_that_nobody_closes_is_closed_when_it_is_dropped(make: Make) -> None:
    _launch.make_launcher(None, None, (), None, None).close()
    # But for the template, which stays.
    before, running = descriptors(), children()
    launcher = _launch.make_launcher(None, None, (), None, None)
    assert descriptors() != before
    del launcher
    assert (descriptors(), children()) == (before, running)


def test_closing_twice_is_closing_once(make: Make) -> None:
    crew = make()
    launcher = _launch.make_launcher(None, None, (), None, None)
    launcher.close()
    launcher.close()
    assert crew.start()("1") == 1


# --- Which way -------------------------------------------------------------------------------


def launcher_for(initargs: tuple[Any, ...], tasks: int | None = None, **more: Any) -> Any:
    """The launcher for these arguments of an initializer."""
    return _launch.make_launcher(None, more.get("initializer", print), initargs, tasks, None)


@pytest.mark.parametrize("what", ["Lock", "Queue", "SimpleQueue", "Event", "Pipe", "Barrier"])
def test_what_can_only_be_inherited_is_inherited(what: str) -> None:
    made = getattr(multiprocessing, what)(*([2] if what == "Barrier" else []))
    launcher = launcher_for((made,))
    assert (launcher.starts_at_once, launcher.by_value) == (True, True)
    assert launcher_for((made,), tasks=3).starts_at_once is False


def test_an_initializer_that_holds_a_queue_is_inherited() -> None:
    queue = multiprocessing.SimpleQueue()
    launcher = launcher_for((), initializer=functools.partial(print, queue))
    assert launcher.starts_at_once is True


def test_a_lock_that_is_inherited_works(make: Make) -> None:
    lock = multiprocessing.Lock()
    crew = make(initializer=obey_with, more=(lock,))
    remote = crew.start()
    assert remote("lock.acquire()")
    assert not lock.acquire(block=False)
    remote("lock.release()")
    assert lock.acquire(timeout=30)


def obey_with(address: str, setup: str, lock: Any) -> None:
    """Obey, with a lock at hand."""
    import builtins

    builtins.lock = lock  # type: ignore[attr-defined]
    obey(address, setup)


def test_what_no_pickle_can_hold_is_inherited(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        assert launcher_for((file,)).starts_at_once is True
    assert launcher_for((threading.Lock(),)).starts_at_once is True


class Fails:
    """What goes wrong by itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise LookupError("it fails by itself")


def test_an_argument_that_fails_by_itself_is_told() -> None:
    with pytest.raises(LookupError, match="it fails by itself"):
        launcher_for((Fails(),))


def test_what_can_be_sent_is_sent() -> None:
    launcher = launcher_for((1, {"a": [2]}, lambda: 3), initializer=lambda *args: None)
    assert isinstance(launcher, _launch_template.TemplateLauncher)


def test_a_function_of_no_module_can_be_an_initializer(make: Make) -> None:
    offset = 40
    code = compile(
        "def run(address, setup):\n    obey(address, f'answer = {offset} + 2')", "x", "exec"
    )
    names: dict[str, Any] = {"obey": obey, "offset": offset, "__name__": "__main__"}
    exec(code, names)
    assert make(initializer=names["run"]).start()("answer") == 42


def test_fork_and_replaced_workers_do_not_go_together() -> None:
    fork = multiprocessing.get_context("fork")
    with pytest.raises(ValueError, match="max_tasks_per_child"):
        _launch.make_launcher(fork, None, (), 1, None)


@pytest.mark.parametrize(("number", "error"), [("1", TypeError), (1.5, TypeError), (0, ValueError)])
def test_the_number_of_tasks_of_a_worker_is_checked(number: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_tasks_per_child"):
        _launch.make_launcher(None, None, (), number, None)


def test_context_variables_must_be_importable() -> None:
    hidden: contextvars.ContextVar[int] = contextvars.ContextVar("hidden")
    with pytest.raises(ValueError, match="hidden"):
        _launch.make_launcher(None, None, (), None, [hidden])
    with pytest.raises(TypeError, match="context variables"):
        _launch.make_launcher(None, None, (), None, ["name"])  # type: ignore[list-item]


def test_an_interpreter_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", None)
    with pytest.raises(RuntimeError, match=r"sys\.executable does not name"):
        _launch.make_launcher(None, None, (), None, None)


def test_a_frozen_program_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    running = children()
    with pytest.raises(RuntimeError, match="is the program itself"):
        _launch.make_launcher(None, None, (), None, None)
    assert children() == running


def test_the_interpreter_that_was_set_for_workers_is_used(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "python-for-workers"
    other.symlink_to(sys.executable)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(other))
    remote = make(setup="import os").start()
    line = Path(f"/proc/{remote('os.getppid()')}/cmdline").read_bytes()
    assert line.startswith(os.fsencode(other) + b"\0")


def test_an_interpreter_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/there/is/none")
    before = descriptors()
    with pytest.raises(OSError, match="/there/is/none"):
        _launch.make_launcher(None, None, (), None, None)
    # The template that was there does not fit any more.
    assert descriptors() <= before


def test_an_interpreter_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    launcher = _launch.make_launcher(None, None, (), None, None)
    with pytest.raises(OSError, match=r"\(/bin/false, pid \d+\) has ended"):
        launcher.start(0, 0)
    launcher.close()


def test_a_template_may_be_ended_twice() -> None:
    template = _template_process.Template()
    template.end()
    template.end()
    with pytest.raises(_template_process.TemplateEnded):
        template.ask("reap", 1)

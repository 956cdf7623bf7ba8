"""What takes a program of its own: importing, forking, Ctrl-C, leaving, and memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest
from faults import Faults
from programs import Program, run

MIB = 1 << 20
INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)
PEAK = """
def peak():
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
"""


def clean(source: str) -> list[str]:
    """Run a program that ends well and return what it said."""
    code, output, errors = run("raddle", source)
    assert (code, errors) == (0, []), output
    return output


def test_importing_loads_nothing_and_starts_no_thread():
    output = clean(
        """
        say(threading.active_count(), len(os.listdir("/proc/self/task")))
        for name in ("raddle._fetch", "tqdm", "asyncio", "ssl", "http.client", "json"):
            if name in sys.modules:
                say(name)
        """
    )
    assert output == ["1 1"]


def test_fetching_starts_no_thread_for_an_address_of_numbers(faults: Faults):
    output = clean(
        f"""
        assert all(r.ok for r in futures.fetch([{faults.url("ok")!r}] * 100))
        say(threading.active_count(), len(os.listdir("/proc/self/task")))
        """
    )
    assert output == ["1 1"]


def test_looking_up_many_names_starts_few_threads():
    output = clean(
        """
        # No name server is asked for names as long as these.
        urls = [f"http://{'x' * 70}{n}.invalid/" for n in range(200)]
        done, most = threading.Event(), 0
        def watch():
            global most
            while not done.is_set():
                most = max(most, len(os.listdir("/proc/self/task")))
        watcher = threading.Thread(target=watch)
        watcher.start()
        responses = futures.fetch(urls, retries=0)
        done.set()
        watcher.join()
        assert all(isinstance(r.error, futures.DNSFailed) for r in responses), responses
        say(most)
        """
    )
    assert int(output[0]) <= 32


def test_a_single_get_loads_no_progress_bar_and_no_certificates(faults: Faults):
    output = clean(
        f"""
        futures.get({faults.url("ok")!r})
        say(*sorted({{"tqdm", "asyncio", "ssl", "requests"}} & set(sys.modules)), "end")
        """
    )
    assert output == ["end"]


# --- Fork ----------------------------------------------------------------------------------------


def test_a_child_fetches_with_connections_of_its_own(faults: Faults):
    url = faults.url("echo", host="127.0.0.46")
    clean(
        f"""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        def fetch(name, n):
            for response in futures.fetch([{url!r} + f"?name={{name}}&n={{i}}" for i in range(n)]):
                assert response.ok and f"name={{name}}&" in response.json()["target"], response
        fetch("parent", 5)
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                fetch(f"child{{number}}", 20)
                sys.exit(0)
            children.append(pid)
        fetch("parent", 20)
        for pid in children:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        fetch("parent", 20)
        """
    )
    users: dict[int, set[str]] = {}
    for request in faults.requests():
        name = request["target"].partition("name=")[2].partition("&")[0]
        users.setdefault(request["connection"], set()).add(name)
    assert len(users) >= 4
    assert all(len(names) == 1 for names in users.values()), "no connection has two processes"


def test_a_fork_while_batches_run_leaves_both_sides_whole(faults: Faults):
    clean(
        f"""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        urls = [{faults.url("ok", size=1000)!r}] * 30
        futures.fetch  # imported before the fork: an import under way would be stuck in the child
        stop = threading.Event()
        def work():
            while not stop.is_set():
                assert all(len(r.content) == 1000 for r in futures.fetch(urls))
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    assert all(r.ok for r in futures.fetch(urls))
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        stop.set()
        for thread in threads:
            thread.join()
        assert all(r.ok for r in futures.fetch(urls))
        """
    )


def test_a_child_may_drop_an_iterator_of_the_parent(faults: Faults):
    clean(
        f"""
        import gc, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        responses = futures.fetch_iter([{faults.url("ok")!r}] * 50, concurrency=4)
        next(responses)
        pid = os.fork()
        if pid == 0:
            del responses
            gc.collect()
            assert futures.get({faults.url("ok")!r}).ok
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert len(list(responses)) == 49
        """
    )


def test_multiprocessing_by_fork_fetches(faults: Faults):
    clean(
        f"""
        import multiprocessing, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        def work(n):
            return len(futures.get({faults.url("ok", size=100)!r}).content) + n
        assert futures.get({faults.url("ok")!r}).ok
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(work, range(20)) == [100 + n for n in range(20)]
        """
    )


# --- Ctrl-C --------------------------------------------------------------------------------------

WAITS = {
    "fetch": "futures.fetch([silent] * 3, timeout=None)",
    "get": "futures.get(silent, timeout=None)",
    "fetch_iter": "list(futures.fetch_iter([silent] * 3, timeout=None))",
    "download": "futures.download([silent], folder, timeout=None)",
    "a wait to come again": "futures.get(busy)",
    "a connection": "futures.get(full, timeout=None)",
    "a rate": "futures.fetch([ok] * 10, rate=0.01)",
}


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_a_wait(faults: Faults, tmp_path, what):
    source = f"""
        silent, busy = {faults.url("silent")!r}, {faults.url("busy", after=25)!r}
        full, ok = {faults.url("ok", scheme="full")!r}, {faults.url("ok")!r}
        folder = {str(tmp_path)!r}
        say("ready")
        try:
            {WAITS[what]}
        except KeyboardInterrupt:
            say("interrupted")
        say(len(futures.get(ok).content))
        """
    with Program("raddle", source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        program.expect("interrupted")
        program.expect("13")
        assert program.wait() == 0


def test_ctrl_c_ends_a_busy_batch(faults: Faults):
    source = f"""
        import itertools
        say("ready")
        for response in futures.fetch_iter(itertools.repeat({faults.url("ok")!r})):
            pass
        """
    with Program("raddle", source) as program:
        program.expect("ready")
        faults.wait_requests(500)
        program.interrupt()
        assert program.wait() in INTERRUPTED
        assert "KeyboardInterrupt" in program.errors[-1]


def test_ctrl_c_gives_up_what_is_under_way(faults: Faults):
    source = f"""
        try:
            futures.fetch([{faults.url("silent")!r}] * 4, timeout=None)
        except KeyboardInterrupt:
            say("interrupted")
        sys.stdin.readline()
        """
    with Program("raddle", source) as program:
        faults.wait_requests(4)
        program.interrupt()
        program.expect("interrupted")
        faults.wait_left(4)  # while the program still runs
        program.say()
        assert program.wait() == 0


def test_a_signal_handler_runs_while_a_batch_waits(faults: Faults):
    source = f"""
        signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
        os.kill(os.getpid(), signal.SIGUSR1)
        def send():
            sys.stdin.readline()
            os.kill(os.getpid(), signal.SIGUSR1)
        threading.Thread(target=send).start()
        say(futures.get({faults.url("hold")!r}, timeout=50).text)
        """
    with Program("raddle", source) as program:
        program.expect("handled")
        faults.wait_requests(1)
        program.say()
        program.expect("handled")
        faults.release()
        program.expect("released")
        assert program.wait() == 0


def test_ctrl_c_leaves_no_half_file_under_its_name(raddle, faults: Faults, tmp_path):
    url = faults.url("file", gate="never")
    source = f"""
        try:
            futures.download([{url!r}], {str(tmp_path)!r}, timeout=None)
        except KeyboardInterrupt:
            say("interrupted")
        """
    with Program("raddle", source) as program:
        faults.wait_requests(1)
        program.wait_blocked()
        program.interrupt()
        program.expect("interrupted")
        assert program.wait() == 0
    assert not (tmp_path / "file").exists()
    # A later call makes it whole, whatever there is to go on from.
    faults.release("never")
    [download] = raddle.download([url], tmp_path)
    assert download.error is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"".join(b"%07d\n" % n for n in range(1250))


# --- Leaving, and memory -------------------------------------------------------------------------


def test_a_program_may_leave_with_batches_under_way(faults: Faults):
    clean(
        f"""
        thread = threading.Thread(
            target=lambda: futures.fetch([{faults.url("silent")!r}], timeout=None), daemon=True
        )
        thread.start()
        responses = futures.fetch_iter([{faults.url("ok")!r}] * 50, concurrency=2)
        next(responses)
        """
    )


def test_the_memory_of_a_large_download_is_flat(faults: Faults, tmp_path):
    size = 200 * MIB
    output = clean(
        textwrap.dedent(PEAK)
        + textwrap.dedent(
            f"""
        futures.download([{faults.url("large/small", size=1000)!r}], {str(tmp_path)!r})
        before = peak()
        [download] = futures.download([{faults.url("large", size=size)!r}], {str(tmp_path)!r})
        assert download.error is None, download.error
        say(download.size, peak() - before)
        """
        )
    )
    told, grown = map(int, output[0].split())
    assert told == size == (tmp_path / "large").stat().st_size
    assert grown < 24 * MIB


def test_what_an_iterator_has_given_is_let_go(faults: Faults):
    output = clean(
        textwrap.dedent(PEAK)
        + textwrap.dedent(
            f"""
        urls = [{faults.url("large", size=MIB)!r}] * 150
        for response in futures.fetch_iter(urls[:10], concurrency=4):
            assert len(response.content) == {MIB}
        before = peak()
        for response in futures.fetch_iter(urls, concurrency=4):
            assert len(response.content) == {MIB}
        say(peak() - before)
        """
        )
    )
    assert int(output[0]) < 50 * MIB, "150 MB went through"


def test_no_file_is_left_open(faults: Faults):
    output = clean(
        f"""
        def count():
            return len(os.listdir("/proc/self/fd"))
        bad = [{faults.url("short")!r}, {faults.url("ok", scheme="refused")!r}, "no url"]
        def work():
            futures.fetch([{faults.url("ok")!r}] * 20 + bad * 5, retries=0, concurrency=8)
            responses = futures.fetch_iter([{faults.url("silent")!r}] * 5, timeout=0.05, retries=0)
            next(responses)
            responses.close()
        work()
        before = count()
        for _ in range(10):
            work()
        say(count() - before)
        """
    )
    assert int(output[0]) <= 8


def test_no_resource_is_warned_of(faults: Faults):
    source = f"""
import raddle
raddle.fetch([{faults.url("ok")!r}] * 5)
next(raddle.fetch_iter([{faults.url("ok")!r}] * 5))
import asyncio
async def main():
    await raddle.fetch_async([{faults.url("ok")!r}])
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", source], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_may_drop_a_batch_of_asyncio(faults: Faults):
    output = clean(
        f"""
        import asyncio, gc, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        async def main():
            batch = futures.fetch_async([{faults.url("ok")!r}] * 200, concurrency=2)
            count, forked = 0, False
            async for response in batch:
                count += response.ok
                if not forked:
                    forked = True
                    pid = os.fork()
                    if pid == 0:
                        code = 1
                        try:
                            try:
                                batch._stream.take()
                            except RuntimeError as error:
                                assert "fork" in str(error), error
                                batch.close()
                                del batch
                                gc.collect()
                                code = 0
                        finally:
                            os._exit(code)
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            say(count)
        asyncio.run(main())
        """
    )
    assert output == ["200"]


def test_an_error_can_be_shown_when_no_file_can_be_opened():
    output = clean(
        """
        import resource
        [response] = futures.fetch(["no url"])
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
        say(type(response.error).__name__, repr(response)[:30])
        """
    )
    assert output == ["InvalidURL <Response InvalidURL no url: t"]


@pytest.mark.parametrize("hosts", [1, 60])
def test_too_few_file_descriptors_cost_no_response(faults: Faults, hosts):
    urls = [faults.url("ok", host=f"127.0.0.{n % hosts + 1}", number=n) for n in range(240)]
    output = clean(
        f"""
        import resource
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
        responses = futures.fetch({urls!r}, concurrency=60, retries=0)
        say(sum(response.ok for response in responses))
        """
    )
    assert output == ["240"]


def test_connections_that_rest_leave_most_file_descriptors_to_others(faults: Faults):
    urls = [faults.url("ok", host=f"127.0.0.{n + 1}") for n in range(60)]
    output = clean(
        f"""
        import resource
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, most))
        before = len(os.listdir("/proc/self/fd"))
        assert all(response.ok for response in futures.fetch({urls!r}, concurrency=40))
        futures.get({urls[0]!r})  # those that were dropped are closed by now
        say(len(os.listdir("/proc/self/fd")) - before)
        """
    )
    assert int(output[0]) <= 80 // 4 + 8, "a quarter, and the event loop's own"


def test_an_error_says_that_there_is_no_file_descriptor(faults: Faults):
    output = clean(
        f"""
        import resource
        futures.get({faults.url("ok")!r})
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
        [response] = futures.fetch([{faults.url("ok", host="127.0.0.2")!r}], retries=0)
        say(type(response.error).__name__, "ulimit -n" in str(response.error))
        """
    )
    assert output == ["ConnectionFailed True"]


def test_without_an_event_loop_nothing_is_fetched_and_the_system_is_blamed(faults: Faults):
    output = clean(
        f"""
        import resource
        futures.get({faults.url("ok")!r}, timeout=None)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
        try:
            futures.get({faults.url("ok")!r}, http2=False)
        except OSError as error:
            say("ulimit -n" in str(error))
        """
    )
    assert output == ["True"]


def test_a_child_that_drops_a_batch_of_asyncio_leaves_the_loop_of_its_parent(faults: Faults):
    output = clean(
        f"""
        import asyncio, gc, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        loop = asyncio.new_event_loop()
        batch = futures.fetch_async([{faults.url("ok")!r}] * 200, concurrency=2)
        loop.run_until_complete(batch.__anext__())
        pid = os.fork()
        if pid == 0:
            del batch
            gc.collect()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        async def rest():
            return len([response async for response in batch])
        say(loop.run_until_complete(rest()))
        loop.close()
        """
    )
    assert output == ["199"]

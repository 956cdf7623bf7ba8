"""Many tasks, many threads, many pools: each task ends once, nothing is lost, nothing grows.

The reference runs the same tests with fewer tasks: it is there to show that they are right.
"""

import itertools
import os
import threading
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as WaitTimeout

import pytest
from implementations import REFERENCE
from programs import run

pytestmark = pytest.mark.stress


@pytest.fixture
def scaled(library):
    """Scales a number of tasks down for the reference."""
    return lambda count: count if library.__name__ != REFERENCE else count // 20


def in_threads(count, function):
    """Call *function* with 0, 1, ... in *count* threads at once; what they raise is raised here."""
    start, errors = threading.Barrier(count), []

    def call(number):
        try:
            start.wait()
            function(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Ledger:
    """Counts how often each task ran and how often each future told that it is done."""

    def __init__(self, size):
        self.ran, self.told = bytearray(size), bytearray(size)

    def run(self, number):
        self.ran[number] += 1
        if number % 7 == 3:
            raise LookupError(number)
        return number

    def tell(self, number):
        self.told[number] += 1

    def check(self, number, future):
        """Exactly one end, and the right one; returns its kind."""
        assert future.done() and self.told[number] == 1, number
        if future.cancelled():
            assert self.ran[number] == 0, number
            return "cancelled"
        assert self.ran[number] == 1, number
        error = future.exception()
        if error is not None:
            assert isinstance(error, LookupError) and error.args == (number,)
            return "failed"
        assert future.result() == number
        return "done"


def test_futures_with_callbacks_cancels_and_timeouts_end_exactly_once(
    library, make_executor, scaled
):
    threads, each = 8, scaled(12_500)
    executor, ledger, futures = make_executor(4), Ledger(threads * each), {}

    def work(thread):
        for number in range(thread * each, (thread + 1) * each):
            future = executor.submit(ledger.run, number)
            futures[number] = future
            future.add_done_callback(lambda _, number=number: ledger.tell(number))
            if number % 3 == 0:
                future.cancel()
            elif number % 64 == 1:
                try:
                    future.result(timeout=0.0001)
                except (WaitTimeout, LookupError):
                    pass
            elif number % 256 == 2:
                library.wait([future, futures[number - 1]], timeout=0.0001)
            if number % 2 == 0:
                futures[thread * each + (number * 7) % (number - thread * each + 1)].cancel()

    in_threads(threads, work)
    executor.shutdown(wait=True)
    assert len(futures) == threads * each
    kinds = [ledger.check(number, future) for number, future in futures.items()]
    assert set(kinds) >= {"done", "failed"}
    if library.__name__ != REFERENCE:
        figures = executor.statistics()
        assert figures.submitted == len(kinds)
        found = (figures.done, figures.failed, figures.cancelled)
        assert found == tuple(map(kinds.count, ("done", "failed", "cancelled")))
        assert (figures.running, figures.waiting) == (0, 0)


def test_tasks_with_armed_timeouts_end_exactly_once(raddle, make_raddle, blocker):
    threads, each = 8, 12_500
    executor, ledger = make_raddle(4), Ledger(threads * each)
    view, late, ended = executor.options(task_timeout=600.0), [], {}

    def work(thread):
        for number in range(thread * each, (thread + 1) * each):
            future = view.submit(ledger.run, number)
            future.add_done_callback(lambda _, number=number: ledger.tell(number))
            if number % 5 == 0:
                future.cancel()
            if number % 5000 == 1:
                late.append(executor.options(task_timeout=0.01).submit(blocker))
            ended[number] = future

    in_threads(threads, work)
    assert len(late) == 20
    assert all(isinstance(f.exception(), raddle.TaskTimeout) for f in late)
    executor.shutdown(wait=True)
    kinds = [ledger.check(number, future) for number, future in ended.items()]
    assert len(kinds) == threads * each
    figures = executor.statistics()
    assert figures.abandoned == 20
    assert figures.failed == kinds.count("failed") + 20
    assert (figures.done, figures.cancelled) == (kinds.count("done"), kinds.count("cancelled"))


@pytest.mark.usefixtures("hurried")
def test_threads_that_switch_all_the_time_lose_nothing(library, make_executor, scaled):
    count = scaled(20_000) // 4
    executor, ledger, futures = make_executor(3), Ledger(4 * count), {}

    def work(thread):
        for number in range(thread * count, (thread + 1) * count):
            futures[number] = executor.submit(ledger.run, number)
            futures[number].add_done_callback(lambda _, number=number: ledger.tell(number))
            if number % 4 == 0:
                futures[number].cancel()

    in_threads(4, work)
    assert library.wait(futures.values()).not_done == set()
    executor.shutdown(wait=True)
    assert len([ledger.check(n, f) for n, f in futures.items()]) == 4 * count


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("workers", [1, 2, 32])
def test_one_by_one_never_hangs(make_executor, scaled, workers):
    executor = make_executor(workers)
    count = scaled(20_000)
    for number in range(count):
        assert executor.submit(abs, -number).result() == number


@pytest.mark.parametrize("submitters", [1, 4])
@pytest.mark.parametrize("workers", [1, 2, 64])
def test_bursts_with_pauses_never_hang(library, make_executor, scaled, workers, submitters):
    """Workers go to sleep between the bursts: each burst has to wake them."""
    executor = make_executor(workers)

    def work(number):
        for burst in range(scaled(4000) // submitters):
            futures = [executor.submit(abs, -burst) for _ in range(1 + burst % 5)]
            assert all(f.result() == burst for f in futures)
            if burst % 100 == number:
                threading.Event().wait(0.0005)

    in_threads(submitters, work)


@pytest.mark.usefixtures("hurried")
def test_maps_from_many_threads_never_hang(make_executor, scaled):
    executor = make_executor(4)

    def work(thread):
        for size in range(scaled(400)):
            size = size % 50
            assert list(executor.map(abs, range(-size, 0))) == list(range(size, 0, -1))

    in_threads(8, work)


def test_maps_that_are_left_early_from_many_threads_never_hang(make_executor, scaled):
    executor = make_executor(3)

    def work(thread):
        for size in range(scaled(1000)):
            results = executor.map(divmod, range(30), itertools.chain([1] * 10, [0] * 20))
            if size % 2:
                assert next(results) == (0, 0)
                results.close()
            else:
                with pytest.raises(ZeroDivisionError):
                    list(results)

    in_threads(4, work)
    assert list(executor.map(abs, [-1])) == [1]


def test_all_tasks_of_a_wide_pool_meet_at_a_barrier(make_executor):
    executor, barrier = make_executor(64), threading.Barrier(64)
    for _ in range(20):
        futures = [executor.submit(barrier.wait) for _ in range(64)]
        assert sorted(f.result() for f in futures) == list(range(64))
        assert sorted(executor.map(lambda _: barrier.wait(), range(64))) == list(range(64))


def test_callbacks_added_while_the_task_ends_run_exactly_once(make_executor, scaled):
    executor, told = make_executor(2), []
    for number in range(scaled(20_000)):
        future = executor.submit(int)
        future.add_done_callback(lambda _, number=number: told.append(number))
    executor.shutdown(wait=True)
    assert sorted(told) == list(range(scaled(20_000)))


def test_pools_come_and_go_without_leaving_threads_or_files(library, scaled):
    def use():
        for number in range(scaled(1000)):
            executor = library.ThreadPoolExecutor(3)
            assert executor.submit(abs, -number).result() == number
            if number % 3 == 0:
                executor.shutdown(wait=True)
            elif number % 3 == 1:
                executor.map(abs, range(5))
                executor.shutdown(wait=False)
            del executor

    def settle(kind):
        """The number of *kind* at rest; the system frees a thread a little after its join."""
        for thread in threading.enumerate():
            if thread.name.startswith("ThreadPoolExecutor"):
                thread.join()
        seen = []
        for _ in range(50):
            seen.append(len(os.listdir(f"/proc/self/{kind}")))
            threading.Event().wait(0.01)
        return min(seen)

    use()
    threads, files = settle("task"), settle("fd")
    use()
    assert settle("task") <= threads
    assert settle("fd") <= files


MEMORY = """
    import gc

    PAGE = os.sysconf("SC_PAGE_SIZE")

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * PAGE

    def increment(number):
        return number + 1
    """
BY_SUBMIT = """
    def use(executor, count):
        total = 0
        for start in range(0, count, 5000):
            slice_ = [executor.submit(increment, n) for n in range(start, start + 5000)]
            total += sum(f.result() for f in slice_)
        return total
    """
BY_MAP = """
    def use(executor, count):
        return sum(sum(executor.map(increment, range(n, n + 5000))) for n in range(0, count, 5000))
    """
BY_BUFFER = """
    def use(executor, count):
        return sum(executor.map(increment, range(count), buffersize=1000))
    """
BY_CALLBACK = """
    def use(executor, count):
        totals, lock = [0, 0], threading.Lock()
        def add(future):
            with lock:
                totals[0] += future.result()
                totals[1] += 1
        for start in range(0, count, 5000):
            for number in range(start, start + 5000):
                executor.submit(increment, number).add_done_callback(add)
            while totals[1] < start + 5000:
                executor.submit(int).result()
        return totals[0]
    """
BY_FAILURE = """
    def fail(number):
        raise LookupError(number + 1)
    def use(executor, count):
        total = 0
        for start in range(0, count, 5000):
            slice_ = [executor.submit(fail, n) for n in range(start, start + 5000)]
            total += sum(f.exception().args[0] for f in slice_)
        return total
    """
BY_CANCEL = """
    def use(executor, count):
        for start in range(0, count, 5000):
            gate = threading.Event()
            executor.submit(gate.wait), executor.submit(gate.wait)
            slice_ = [executor.submit(increment, n) for n in range(start, start + 5000)]
            assert all(f.cancel() for f in slice_)
            gate.set()
        return sum(range(1, count + 1))
    """
MEASURE = """
    with futures.ThreadPoolExecutor(2) as executor:
        count = {count}
        assert use(executor, count // 10) == sum(range(1, count // 10 + 1))
        before = resident()
        assert use(executor, count) == sum(range(1, count + 1))
        say(resident() - before)
    """
WAYS = {
    "submit": BY_SUBMIT,
    "map": BY_MAP,
    "callback": BY_CALLBACK,
    "failure": BY_FAILURE,
    "cancel": BY_CANCEL,
}
MILLION = 1_000_000
GROWTH = 24 << 20


def measure_growth(library, way, count):
    """Bytes that the program has grown by, after a tenth of *count* tasks and *count* more."""
    source = "".join((MEMORY, way, MEASURE.format(count=count)))
    code, output, errors = run(library, source)
    assert (code, errors) == (0, [])
    return int(output[0])


@pytest.mark.parametrize("way", WAYS)
def test_a_million_tasks_lose_nothing_and_memory_stays_flat(library, scaled, way):
    assert measure_growth(library.__name__, WAYS[way], scaled(MILLION)) < GROWTH


def test_a_million_tasks_through_a_buffer_lose_nothing_and_memory_stays_flat():
    assert measure_growth("raddle", BY_BUFFER, MILLION) < GROWTH


def test_the_measure_of_memory_notices_what_is_kept():
    keeping = """
    kept = []
    def use(executor, count):
        kept.extend(executor.submit(increment, n) for n in range(count))
        return sum(f.result() for f in kept[-count:])
    """
    assert measure_growth(REFERENCE, keeping, 50_000) > GROWTH


def test_cancelling_from_many_threads_succeeds_once_or_not_at_all(make_executor, scaled):
    executor = make_executor(2)
    for _ in range(scaled(400)):
        ran = []
        futures = [executor.submit(ran.append, n) for n in range(20)]
        answers = [[] for _ in futures]

        def cancel_all(_, futures=futures, answers=answers):
            for future, answer in zip(futures, answers, strict=True):
                answer.append(future.cancel())

        in_threads(3, cancel_all)
        for number, future in enumerate(futures):
            assert len(set(answers[number])) == 1, "all were told the same"
            if answers[number][0]:
                with pytest.raises(CancelledError):
                    future.result()
            else:
                assert future.result() is None
        assert sorted(ran) == [n for n, answer in enumerate(answers) if not answer[0]]

"""`raddle.map` as it chooses by itself, and that its choice never changes the result."""

from __future__ import annotations

import contextvars
import decimal
import functools
import itertools
import logging
import operator
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import raddle
from raddle._effects import effects_of
from raddle._travel import obstacle

HOWS = ["auto", "sequential", "threads", "processes"]


def square(n):
    return n * n


def compute(n):
    total = 0
    for i in range(n):
        total += i * i
    return total


def nap(seconds):
    time.sleep(seconds)
    return seconds


def fail_at_seven(n):
    if n == 7:
        raise ValueError("seven")
    return n


@pytest.mark.parametrize("how", HOWS)
def test_the_results_are_those_of_the_builtin_map(how):
    assert list(raddle.map(square, range(1000), how=how)) == [n * n for n in range(1000)]
    assert list(raddle.map(pow, [1, 2, 3], itertools.count(2), how=how)) == [1, 8, 81]
    assert list(raddle.map(square, [], how=how)) == []
    assert list(raddle.map(square, iter([3]), how=how)) == [9]


def test_waiting_goes_to_threads():
    # Long beside what a thread may have to wait for a core on a machine that has much to do.
    results = raddle.map(nap, [0.2] * 40)
    assert list(results) == [0.2] * 40
    assert "now threads" in results.report()
    assert "waiting" in results.report()


def test_computing_goes_to_processes_and_comes_back_in_order():
    sizes = [60_000 + n for n in range(150)]
    results = raddle.map(compute, sizes, workers=2)
    assert list(results) == [compute(n) for n in sizes]


def test_a_few_long_calls_are_not_waited_for_one_by_one():
    barrier = threading.Barrier(3)

    def meet(n):
        with lock:
            pass  # a lock: its author has thought of threads
        barrier.wait(60)
        return n

    lock = threading.Lock()
    assert list(raddle.map(meet, [1, 2, 3])) == [1, 2, 3]


def test_a_trivial_map_stays_a_loop_in_the_calling_thread():
    threads = set(raddle.map(lambda _: threading.get_ident(), range(20_000)))
    assert threads == {threading.get_ident()}


def test_an_endless_input_is_drawn_only_as_results_are_taken():
    drawn = []

    def source():
        for n in itertools.count():
            drawn.append(n)
            yield n

    for how in HOWS:
        drawn.clear()
        with raddle.map(square, source(), how=how) as results:
            assert list(itertools.islice(results, 5)) == [0, 1, 4, 9, 16]
        assert len(drawn) < 500


def test_buffersize_bounds_what_is_drawn():
    drawn = []
    results = raddle.map(
        square, (drawn.append(n) or n for n in range(100)), how="threads", buffersize=3
    )
    taken = 0
    for _ in results:
        taken += 1
        assert len(drawn) - taken <= 3
    assert taken == 100


# --- Effects ---------------------------------------------------------------------------------

seen: list[int] = []
total = 0


def add_up(n):
    global total
    time.sleep(0.002)
    total += n
    return n


class Counting:
    def __init__(self):
        self.count = 0

    def __call__(self, n):
        time.sleep(0.002)
        self.count += 1
        return n


def test_appending_to_a_captured_list_appends_every_item_in_order():
    out = []
    list(raddle.map(lambda n: (time.sleep(0.001), out.append(n)), range(60)))
    assert out == list(range(60))


def test_a_sum_in_a_global_is_right_and_the_report_says_why_it_stayed():
    global total
    total = 0
    results = raddle.map(add_up, range(60))
    list(results)
    assert total == sum(range(60))
    assert "no processes: it stores to the global 'total'" in results.report()
    assert "now sequential" in results.report()


def test_an_object_that_counts_its_calls_counts_them_all():
    counting = Counting()
    list(raddle.map(counting, range(60)))
    assert counting.count == 60


def test_arguments_that_are_changed_are_the_callers():
    rows = [[n] for n in range(40)]

    def double(row):
        time.sleep(0.002)
        row[0] *= 2

    list(raddle.map(double, rows))
    assert rows == [[2 * n] for n in range(40)]


def test_a_change_that_the_code_does_not_show_is_seen_in_the_first_item():
    rows = [[3, 1, 2] for _ in range(60)]
    sort = operator.methodcaller("sort")
    results = raddle.map(lambda row: (compute(40_000), sort(row)), rows)
    list(results)
    assert rows == [[1, 2, 3]] * 60
    assert "it was seen to change its argument 0" in results.report()


def test_shared_random_numbers_come_in_the_order_of_the_loop():
    def draw(_):
        time.sleep(0.002)
        return random.random()

    random.seed(5)
    expected = [random.random() for _ in range(40)]
    random.seed(5)
    assert list(raddle.map(draw, range(40))) == expected


def test_an_effect_of_a_few_long_calls_is_not_lost():
    marks = []

    def mark(n):
        compute(600_000)
        list.append(marks, n)
        return n

    assert list(raddle.map(mark, range(5))) == list(range(5))
    assert sorted(marks) == list(range(5))


class Holder:
    def __init__(self):
        self.items = []
        self.size = 3

    def keep(self, item):
        self.items.append(item)

    def pure(self, item):
        return item + self.size

    def indirectly(self, item):
        self.keep(item)


holder = Holder()
table: dict[int, int] = {}
numbers = itertools.count()


def helper(target, item):
    target.append(item)


def stores(n):
    table[n] = n


def stores_late(n):
    if n > 1000:
        table.update({n: n})


def by_helper(n):
    helper(seen, n)


def by_alias(n):
    other = seen
    other.append(n)


def by_comprehension(n):
    return [seen.append(i) for i in range(n)]


def deep(n):
    table["a"]["b"].append(n)  # type: ignore[index]


def locally(n):
    made = []
    helper(made, n)
    counts = {}
    counts[n] = len(made)
    return sorted(counts.items(), key=lambda pair: pair[1])


def reads(n):
    return table.get(n), seen[0] if seen else None, holder.size


@pytest.mark.parametrize(
    "function",
    [
        stores,
        stores_late,
        by_helper,
        by_alias,
        by_comprehension,
        deep,
        add_up,
        Counting(),
        holder.keep,
        holder.indirectly,
        seen.append,
        functools.partial(helper, seen),
        lambda n: next(numbers),
        lambda n: random.random(),
        lambda n: holder.keep(n),
    ],
)
def test_code_that_changes_something_outside_is_seen(function):
    assert effects_of(function).reason is not None


@pytest.mark.parametrize(
    "function",
    [locally, reads, compute, nap, square, abs, str.upper, holder.pure, functools.partial(pow, 2)],
)
def test_code_that_changes_only_its_own_is_free_to_go(function):
    assert effects_of(function).reason is None


# --- Errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_an_error_comes_after_the_results_before_it_and_names_the_item(how):
    taken = []
    with pytest.raises(ValueError, match="seven") as caught:
        for value in raddle.map(fail_at_seven, range(20), how=how):
            taken.append(value)
    assert taken == list(range(7))
    assert caught.value.__notes__ == ["raddle.map: this was item 7: 7"]


@pytest.mark.parametrize("how", HOWS)
def test_errors_may_be_returned_or_left_out(how):
    left = [*range(7), *range(8, 20)]
    assert list(raddle.map(fail_at_seven, range(20), how=how, on_error="skip")) == left
    returned = list(raddle.map(fail_at_seven, range(20), how=how, on_error="return"))
    assert isinstance(returned.pop(7), ValueError)
    assert returned == left


@pytest.mark.parametrize("how", ["auto", "sequential", "threads"])
def test_an_item_is_tried_again(how):
    lock = threading.Lock()
    tries = []

    def flaky(n):
        with lock:
            tries.append(n)
        if tries.count(n) < 3:
            raise OSError("not yet")
        return n

    assert list(raddle.map(flaky, [1, 2], how=how, retries=2, retry_on=OSError)) == [1, 2]
    assert len(tries) == 6


@pytest.mark.parametrize("how", ["auto", "sequential", "threads"])
def test_an_error_of_the_input_ends_the_map(how):
    def source():
        yield 1
        yield 2
        raise LookupError("no more")

    taken = []
    with pytest.raises(LookupError, match="no more"):
        for value in raddle.map(square, source(), how=how):
            taken.append(value)
    assert taken == [1, 4]


def test_stop_iteration_of_the_function_is_an_error():
    def stop(n):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(raddle.map(stop, [1, 2, 3]))


@pytest.mark.parametrize("how", ["auto", "threads", "processes"])
def test_an_item_that_takes_too_long_is_given_up(how):
    with pytest.raises(raddle.TaskTimeout) as caught:
        list(raddle.map(nap, [0, 60, 0], how=how, task_timeout=0.3))
    assert any("item 1" in note for note in caught.value.__notes__)


def test_the_time_of_the_whole_ends_it():
    with pytest.raises(TimeoutError):
        list(raddle.map(nap, [0.01] * 10_000, how="threads", workers=2, timeout=0.2))
    with pytest.raises(TimeoutError):
        list(raddle.map(nap, [0.01] * 10_000, how="sequential", timeout=0.2))


def test_results_may_come_as_they_are_there():
    gate = threading.Event()

    def last(n):
        if n == 0:
            gate.wait(60)
        return n

    results = raddle.map(last, range(4), how="threads", workers=2, ordered=False)
    taken = [next(results) for _ in range(3)]
    gate.set()
    assert sorted(taken) == [1, 2, 3]
    assert list(results) == [0]


def test_an_executor_of_the_users_is_used_and_left_open():
    with raddle.ThreadPoolExecutor(2, thread_name_prefix="mine") as executor:
        names = set(raddle.map(lambda _: threading.current_thread().name, range(50), how=executor))
        assert all(name.startswith("mine") for name in names)
        assert executor.submit(abs, -1).result() == 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"how": "quickly"}, ValueError, "how must be"),
        ({"workers": 0}, ValueError, "workers must be 1 or greater"),
        ({"chunksize": "big"}, TypeError, 'chunksize must be an int or "auto"'),
        ({"on_error": "ignore"}, ValueError, "on_error must be"),
        ({"how": "sequential", "task_timeout": 1.0}, ValueError, "nothing can end a call"),
        ({"retries": -1}, ValueError, "retries"),
        ({"timeout": "1"}, TypeError, "timeout must be a number"),
    ],
)
def test_bad_arguments_are_told_at_the_call(arguments, error, words):
    with pytest.raises(error, match=words):
        raddle.map(square, [1], **arguments)


def test_what_cannot_be_called_is_told_at_the_call():
    with pytest.raises(TypeError, match="needs a callable"):
        raddle.map(3, [1])
    with pytest.raises(TypeError, match="needs an iterable"):
        raddle.map(square)


def test_a_map_is_not_used_from_within_itself():
    results: list[object] = []

    def reenter(n):
        next(results[0])  # type: ignore[call-overload]
        return n

    results.append(raddle.map(reenter, [1, 2, 3]))
    with pytest.raises(ValueError, match="in use"):
        list(results[0])  # type: ignore[call-overload]


def test_the_progress_is_told():
    told = []
    list(raddle.map(square, range(10), progress=lambda done, of: told.append((done, of))))
    assert told[-1] == (10, 10)


def test_a_move_is_logged(caplog):
    with caplog.at_level(logging.INFO, "raddle.map"):
        list(raddle.map(nap, [0.2] * 30))
    assert any("threads to take" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("how", HOWS)
def test_an_interrupt_leaves_at_once(how):
    program = f"""
import os, time
import raddle
def nap(n):
    time.sleep(0.02 if n < 5 else 600)
    return n
for n in raddle.map(nap, range(100), how={how!r}, workers=2, chunksize=1):
    os.write(1, b"%d\\n" % n)
"""
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with running:
        try:
            # When these have come, the next is on its way, and does not end by itself.
            for n in range(5):
                assert running.stdout.readline() == b"%d\n" % n
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=60)
        finally:
            running.kill()
    assert b"KeyboardInterrupt" in errors


# --- What cannot travel ----------------------------------------------------------------------


class Model:
    def __init__(self):
        self.session = threading.Lock()


class Request:
    def __init__(self):
        self.model = Model()


def test_what_cannot_travel_is_named_by_its_path():
    found = obstacle(Request(), "args[0]")
    assert found is not None
    assert str(found).startswith("args[0].model.session: a lock cannot travel")
    assert obstacle([1, {"a": (2, "b")}], "args[0]") is None


def test_processes_refuse_a_function_that_cannot_travel_by_name():
    letters = (letter for letter in "ab")
    with pytest.raises(raddle.CannotTravel, match="closure variable letters: a generator"):
        list(raddle.map(lambda n: (letters, n), [1, 2], how="processes"))


def test_an_argument_that_cannot_travel_is_named_in_the_error():
    with pytest.raises(Exception, match="pickle") as caught:
        list(raddle.map(id, [Request()], how="processes"))
    assert any("args[0].model.session: a lock" in note for note in caught.value.__notes__)


def test_auto_keeps_in_the_program_what_cannot_travel():
    lists = [[threading.Lock(), n] for n in range(80)]
    results = raddle.map(lambda pair: compute(40_000) and pair[1], lists)
    assert list(results) == list(range(80))
    assert "now processes" not in results.report()


def test_auto_gives_a_result_that_cannot_travel_although_it_comes_late():
    def late(n):
        compute(60_000)
        return threading.Lock() if n == 100 else n

    results = list(raddle.map(late, range(120)))
    assert isinstance(results.pop(100), type(threading.Lock()))
    assert results == [n for n in range(120) if n != 100]


# --- Advice ----------------------------------------------------------------------------------


def test_advice_is_in_the_terms_of_the_rule_of_thumb():
    waiting = raddle.advise(nap, [0.2] * 100)
    assert waiting.how == "threads"
    assert waiting.reasons[0] == "waiting for something: threads"
    assert waiting.workers > 1 and waiting.speedup > 2
    quick = raddle.advise(abs, range(1000))
    assert quick.how == "sequential"
    assert quick.reasons[0] == "fast enough already: leave it"


def test_advice_says_what_each_way_would_take_and_how_many_items_it_called():
    text = str(raddle.advise(nap, [0.02] * 100))
    assert text.splitlines()[0].split() == ["workers", "chunk", "predicted"]
    for how in ("sequential", "threads", "processes"):
        assert how in text
    assert "of 100 items)" in text


def test_advice_calls_a_bounded_number_of_items_and_draws_no_more():
    called = []
    source = iter(range(1000))
    advice = raddle.advise(called.append, source)
    assert 0 < len(called) <= 32 and advice.sampled == len(called)
    assert next(source) == 32
    assert "no processes" in str(advice)


def test_advice_says_before_what_cannot_travel():
    advice = raddle.advise(lambda lock: compute(200_000), [threading.Lock() for _ in range(50)])
    assert any("args[0]: a lock cannot travel" in reason for reason in advice.reasons)


def test_advice_on_nothing_is_to_do_nothing():
    advice = raddle.advise(square, [])
    assert (advice.how, advice.sampled) == ("sequential", 0)


def die_or_give(number):
    if number == 17:
        os._exit(3)
    return threading.Lock() if number == 5 else number


def test_what_cannot_travel_or_dies_costs_no_other_item():
    results = raddle.map(die_or_give, range(40), how="processes", chunksize=10, on_error="skip")
    assert list(results) == [number for number in range(40) if number not in (5, 17)]


def test_only_locks_are_taken_for_locks():
    class Clock:
        def now(self):
            return 0

    clock, total = Clock(), [0]

    def add(number):
        clock.now()
        before = total[0]
        time.sleep(0.001)
        total[0] = before + 1

    with raddle.map(add, range(200)) as results:
        list(results)
        assert "now threads" not in results.report()
    assert total == [200]


def test_threads_have_the_context_of_the_caller():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(5)
    seen = set(raddle.map(lambda _: variable.get(), range(50), how="threads"))
    assert seen == {5}


# --- What only a worker can see ----------------------------------------------------------------


@pytest.fixture
def run_beside(tmp_path):
    def run(text, **modules):
        for name, source in {**modules, "program": text}.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        done = subprocess.run(
            [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=50
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


SCALED = """
import time

scale = 1
rates = {"a": [1]}

def scaled(n):
    end = time.perf_counter() + 0.004
    while time.perf_counter() < end:
        pass
    return n * scale * rates["a"][0]
"""


def test_a_global_that_was_changed_after_its_import_is_seen(run_beside):
    told = run_beside(
        """
        import raddle, scaling
        scaling.scale, scaling.rates["a"] = 3, [2]
        results = raddle.map(scaling.scaled, range(300), workers=2)
        assert list(results) == [6 * n for n in range(300)]
        print(results.report())
        """,
        scaling=SCALED,
    )
    assert "is not the same in a process" in told
    assert "now processes" not in told


def test_a_global_that_is_as_imported_does_not_keep_it_from_processes(run_beside):
    told = run_beside(
        """
        import raddle, scaling
        results = raddle.map(scaling.scaled, range(600), workers=2)
        assert list(results) == list(range(600))
        print(results.report())
        """,
        scaling=SCALED,
    )
    assert "is not the same in a process" not in told


def test_a_change_that_comes_late_and_that_no_code_shows_is_made_in_the_program(run_beside):
    """Where it is called first it changes nothing, and how it does later cannot be read."""
    told = run_beside(
        """
        import operator, time, raddle

        late = []
        add = operator.methodcaller("append", 1)

        def work(n):
            end = time.perf_counter() + 0.004
            while time.perf_counter() < end:
                pass
            if n >= 200:
                add(late)
            return n, len(late)

        results = raddle.map(work, range(400), workers=2)
        assert list(results) == [(n, max(0, n - 199)) for n in range(400)]
        assert len(late) == 200
        print(results.report())
        """
    )
    assert "processes" in told


def test_the_context_of_decimal_numbers_goes_to_processes():
    numbers = [decimal.Decimal(n) for n in range(1, 50)]
    with decimal.localcontext() as context:
        context.prec = 5
        expected = [1 / number for number in numbers]
        assert list(raddle.map(reciprocal, numbers, how="processes")) == expected
    assert expected != [1 / number for number in numbers]


def reciprocal(number):
    return 1 / number

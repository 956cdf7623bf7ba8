"""What `raddle.map` does when something goes wrong on the way, and how far it runs ahead."""

from __future__ import annotations

import os
import threading

import pytest

import raddle
from raddle import TaskTimeout, UnpicklingFailed, WorkerDied


def give_lock(number):
    return threading.Lock() if number == 13 else number


def die(number):
    if number == 13:
        os._exit(3)
    return number


def die_once(task):
    path, number = task
    if number == 5 and not os.path.exists(path):
        open(path, "w").close()
        os._exit(3)
    with open(f"{path}-{number}", "a") as calls:
        calls.write("x")
    return number


class Odd(Exception):
    """Cannot be made again from its args."""

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


def raise_odd(number):
    if number == 13:
        raise Odd("thirteen", 13)
    return number


def compute(number):
    return sum(range(300_000 + number))


def odd_after_computing(number):
    compute(number)
    return raise_odd(number)


def lock_after_computing(number):
    compute(number)
    return give_lock(number)


def wait_for_ever(number):
    if number == 1:
        threading.Event().wait()
    return number


# --- Which item it was -----------------------------------------------------------------------


def test_a_worker_that_dies_of_a_chunk_names_the_items_that_it_may_have_been():
    results = raddle.map(die, range(24), how="processes", chunksize=8)
    with pytest.raises(WorkerDied, match=r"ran die\(\) with one of 8 items") as caught:
        list(results)
    assert caught.value.__notes__ == ["raddle.map: this was one of items 8 to 15"]


def test_a_worker_that_dies_of_one_item_names_it_and_the_function():
    with pytest.raises(WorkerDied, match=r"ran die\(13\)") as caught:
        list(raddle.map(die, range(24), how="processes", chunksize=1))
    assert caught.value.__notes__ == ["raddle.map: this was item 13: 13"]
    assert caught.value.task == "die(13)"


def test_a_chunk_that_a_worker_died_of_is_tried_again_item_by_item():
    results = raddle.map(die, range(24), how="processes", chunksize=8, retries=1)
    taken = []
    with pytest.raises(WorkerDied, match=r"die\(13\)") as caught:
        for value in results:
            taken.append(value)
    assert taken == list(range(13))
    assert caught.value.__notes__ == ["raddle.map: this was item 13: 13"]


def test_what_died_once_comes_the_second_time_in_its_place(tmp_path):
    tasks = [(str(tmp_path / "mark"), number) for number in range(16)]
    results = raddle.map(die_once, tasks, how="processes", chunksize=8, retries=1)
    assert list(results) == list(range(16))


@pytest.mark.parametrize("how", ["auto", "threads", "processes"])
def test_a_time_limit_names_the_function_and_the_item(how):
    with pytest.raises(TaskTimeout, match=r"^wait_for_ever\(1\) ran longer") as caught:
        list(raddle.map(wait_for_ever, range(3), how=how, task_timeout=0.3))
    assert caught.value.__notes__ == ["raddle.map: this was item 1: 1"]


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_an_item_that_took_too_long_is_tried_again_in_every_way(how, tmp_path):
    path = str(tmp_path / "tries")

    def slow_once(number):
        with open(path, "a") as tries:
            tries.write("x")
        if os.path.getsize(path) == 1:
            threading.Event().wait()
        return number

    results = raddle.map(slow_once, [7], how=how, task_timeout=1.0, retries=1)
    assert list(results) == [7]
    assert os.path.getsize(path) == 2


def test_one_exception_that_several_items_raise_has_one_note():
    error = ValueError("always the same")

    def fail(number):
        raise error

    returned = list(raddle.map(fail, range(3), how="sequential", on_error="return"))
    assert returned == [error] * 3
    assert error.__notes__ == ["raddle.map: this was item 2"]
    with pytest.raises(ValueError, match="always the same"):
        list(raddle.map(fail, [8]))
    assert error.__notes__ == ["raddle.map: this was item 0: 8"]


# --- What cannot come back -------------------------------------------------------------------


def test_a_result_that_cannot_be_sent_is_an_error_of_its_item_alone():
    results = raddle.map(give_lock, range(24), how="processes", chunksize=8)
    taken = []
    with pytest.raises(raddle.CannotTravel, match="the result: a lock") as caught:
        for value in results:
            taken.append(value)
    assert taken == list(range(13))
    assert caught.value.__notes__ == ["raddle.map: this was item 13: 13"]


def test_a_result_that_cannot_be_sent_is_called_for_once_more_and_no_other(tmp_path):
    def mark_and_give(number):
        compute(number)
        os.close(os.open(tmp_path / f"{number}-{os.getpid()}", os.O_CREAT))
        return give_lock(number)

    results = raddle.map(mark_and_give, range(40), how="auto", chunksize=4, workers=2)
    given = list(results)
    assert isinstance(given.pop(13), type(threading.Lock()))
    assert given == [number for number in range(40) if number != 13]
    calls = [name.partition("-")[0] for name in os.listdir(tmp_path)]
    twice = {number for number in calls if calls.count(number) > 1}
    assert twice <= {"13"}


def test_an_exception_that_cannot_be_rebuilt_is_itself_under_auto():
    with pytest.raises(Odd) as caught:
        list(raddle.map(odd_after_computing, range(40), workers=2))
    assert caught.value.second == 13
    assert caught.value.__notes__ == ["raddle.map: this was item 13: 13"]
    returned = list(raddle.map(odd_after_computing, range(40), workers=2, on_error="return"))
    assert type(returned[13]) is Odd


def test_an_exception_that_cannot_be_rebuilt_is_told_by_processes_as_by_their_pools():
    with pytest.raises(UnpicklingFailed, match=r"the task raised .*Odd: thirteen") as caught:
        list(raddle.map(raise_odd, range(24), how="processes", chunksize=8))
    assert caught.value.__notes__ == ["raddle.map: this was item 13: 13"]


# --- How far it runs ahead -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["auto", "sequential"])
def test_a_loop_draws_from_an_iterator_only_what_is_asked_for(how):
    drawn = []
    results = raddle.map(abs, (drawn.append(n) or n for n in range(200)), how=how)
    for taken in range(1, 201):
        next(results)
        assert len(drawn) == taken


def test_a_function_with_effects_is_not_called_before_its_result_is_asked_for():
    out: list[int] = []
    results = raddle.map(lambda number: out.append(number), list(range(200)))
    for taken in range(1, 201):
        next(results)
        assert len(out) == taken


def test_a_result_that_is_there_is_given_before_a_slow_input_has_more():
    first_is_done, first_is_taken = threading.Event(), threading.Event()

    def source():
        yield 0
        first_is_done.wait()
        yield 1
        # Were this drawn before the first result is given, it would wait for ever.
        first_is_taken.wait()
        yield 2

    def work(number):
        return number

    with raddle.ThreadPoolExecutor(2) as executor:

        class Told(raddle.ThreadPoolExecutor):
            """Tells when a chunk is done."""

            def submit(self, fn, /, *args, **kwargs):
                future = executor.submit(fn, *args, **kwargs)
                future.add_done_callback(lambda _: first_is_done.set())
                raddle.wait([future])
                return future

        with Told(2) as told:
            results = raddle.map(work, source(), how=told, chunksize=1)
            assert next(results) == 0
            first_is_taken.set()
            assert list(results) == [1, 2]


def test_a_small_buffer_is_shared_by_all_workers():
    barrier = threading.Barrier(4)

    def meet(number):
        barrier.wait()
        return number

    results = raddle.map(meet, range(40), how="threads", workers=4, buffersize=4, chunksize=8)
    assert list(results) == list(range(40))


# --- What is told ----------------------------------------------------------------------------


def test_a_progress_function_that_cannot_be_called_so_says_so_at_the_call():
    with pytest.raises(TypeError, match="positional argument"):
        raddle.map(abs, [1], progress=lambda done: None)


def test_an_error_of_the_progress_function_loses_no_result():
    def tell(done, total):
        if 0 < done < 6 and not failures:
            failures.append(done)
            raise LookupError("nobody listens")

    failures: list[int] = []
    results = raddle.map(wait_a_little, range(6), how="sequential", progress=tell)
    taken = []
    while len(taken) < 6:
        try:
            taken.append(next(results))
        except LookupError:
            assert failures
    assert taken == list(range(6))
    assert list(results) == []
    assert failures


def wait_a_little(number):
    threading.Event().wait(0.06)
    return number


def test_the_report_of_a_map_with_a_time_limit_says_where_it_was_done():
    results = raddle.map(wait_a_little, range(6), task_timeout=60)
    list(results)
    assert "it was done by threads from the first item on" in results.report()
    assert "plain loop: nothing else" not in results.report()


def test_advice_on_a_function_of_several_arguments_says_what_to_give():
    with pytest.raises(TypeError, match=r"one item, and two\(a, b\) .* lambda item: fn\(\*item\)"):
        raddle.advise(two, [(1, 2)])


def two(a, b):
    return a + b

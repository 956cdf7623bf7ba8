"""fetch_iter: as they complete, from lazy and endless inputs, never far ahead of the reader."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import pytest
from faults import Faults


def counted(urls, taken):
    for url in urls:
        taken.append(url)
        yield url


def test_responses_come_as_they_complete(raddle, faults: Faults):
    urls = [faults.url("hold", gate="first"), faults.url("hold", gate="second"), faults.url("ok")]
    responses = raddle.fetch_iter(urls, timeout=50)
    assert iter(responses) is responses
    seen = [next(responses)]
    for gate in ("second", "first"):
        faults.release(gate)
        seen.append(next(responses))
    assert [response.request.url for response in seen] == urls[::-1]
    with pytest.raises(StopIteration):
        next(responses)
    with pytest.raises(StopIteration):
        next(responses)


def test_nothing_is_taken_before_the_first_is_asked_for(raddle, faults: Faults):
    taken = []
    responses = raddle.fetch_iter(counted([faults.url("ok")] * 3, taken))
    assert taken == [] and faults.requests() == []
    assert len(list(responses)) == 3


def test_an_endless_input_is_held_back(raddle, faults: Faults):
    taken = []
    endless = counted(itertools.repeat(faults.url("ok")), taken)
    responses = raddle.fetch_iter(endless, concurrency=4)
    for count in range(1, 200):
        assert next(responses).ok
        # What is taken and not given out yet: under way, or done and waiting for the reader.
        assert len(taken) - count <= 4 * 4
    responses.close()
    assert len(faults.requests()) <= len(taken)


def test_a_reader_who_stops_stops_the_fetching(raddle, faults: Faults):
    taken = []
    responses = raddle.fetch_iter(counted(itertools.repeat(faults.url("ok")), taken), concurrency=2)
    next(responses)
    before = len(taken)
    assert len(raddle.fetch([faults.url("ok")] * 100)) == 100  # time passes, and other work
    assert len(taken) == before
    responses.close()


def test_closing_gives_up_what_is_under_way(raddle, faults: Faults):
    urls = [faults.url("ok"), *[faults.url("silent")] * 5]
    responses = raddle.fetch_iter(urls, timeout=None)
    assert next(responses).ok
    faults.wait_requests(6)
    responses.close()
    faults.wait_left(5)
    with pytest.raises(StopIteration):
        next(responses)
    responses.close()


def test_dropping_the_iterator_gives_up_what_is_under_way(raddle, faults: Faults):
    for response in raddle.fetch_iter([faults.url("ok"), faults.url("silent")], timeout=None):
        assert response.ok
        break
    faults.wait_requests(2)
    del response
    gc.collect()
    faults.wait_left(1)


def test_a_dropped_iterator_lets_its_input_go(raddle, faults: Faults):
    class Urls:
        def __iter__(self):
            return itertools.repeat(faults.url("ok"))

    urls = Urls()
    seen = weakref.ref(urls)
    responses = raddle.fetch_iter(urls)
    next(responses)
    del urls, responses
    gc.collect()
    assert seen() is None


def test_an_input_that_raises_gives_what_was_fetched_first(raddle, faults: Faults):
    def urls():
        yield faults.url("ok")
        yield faults.url("ok")
        raise LookupError("no more")

    got = []
    with pytest.raises(LookupError, match="no more"):
        for response in raddle.fetch_iter(urls()):
            got.append(response)
    assert len(got) <= 2
    with pytest.raises(LookupError, match="no more"):
        raddle.fetch(urls())


def test_an_input_may_fetch_itself(raddle, faults: Faults):
    def urls():
        for n in range(5):
            yield raddle.get(
                faults.url("written", text=faults.url("ok", n=n), type="text/plain")
            ).text

    assert len(raddle.fetch(urls(), concurrency=2)) == 5


def test_an_input_that_grows_with_the_answers_is_a_crawler(raddle, faults: Faults):
    found = [faults.url("redirects", n=0)]
    seen = []

    def urls():
        while found:
            yield found.pop()

    for response in raddle.fetch_iter(urls(), concurrency=1):
        seen.append(response.url)
        if len(seen) < 5:
            found.append(faults.url("ok", n=len(seen)))
    assert len(seen) >= 1 and all(seen)


def test_a_slow_input_does_not_hold_up_what_is_done(raddle, faults: Faults):
    # The second address comes only once the first response has been seen.
    seen = threading.Event()

    def urls():
        yield faults.url("ok")
        assert seen.wait(50), "the first response was kept until the second address was there"
        yield faults.url("ok")

    for response in raddle.fetch_iter(urls(), concurrency=1):
        assert response.ok
        seen.set()


def test_errors_come_as_responses_here_too(raddle, faults: Faults):
    urls = [faults.url("ok"), "no url", faults.url("short")]
    responses = {r.request.url: r for r in raddle.fetch_iter(urls, retries=0)}
    assert [responses[url].error is None for url in urls] == [True, False, False]


def test_on_error_raise_raises_here_too(raddle, faults: Faults):
    responses = raddle.fetch_iter(["no url", faults.url("silent")], on_error="raise", timeout=None)
    with pytest.raises(raddle.InvalidURL):
        list(responses)


def test_several_iterators_run_beside_each_other(raddle, faults: Faults):
    pairs = zip(
        raddle.fetch_iter([faults.url("ok", n=n) for n in range(30)]),
        raddle.fetch_iter([faults.url("ok", m=n) for n in range(30)]),
    )
    for first, second in pairs:
        assert "n=" in first.url and "m=" in second.url


def test_an_iterator_may_go_to_another_thread(raddle, faults: Faults):
    responses = raddle.fetch_iter([faults.url("ok")] * 10)
    got = [next(responses)]
    thread = threading.Thread(target=lambda: got.extend(responses))
    thread.start()
    thread.join()
    assert len(got) == 10


def test_an_iterator_that_is_in_use_says_so_to_another_thread(raddle, faults: Faults):
    responses = raddle.fetch_iter([faults.url("hold")] * 2, timeout=50)
    with raddle.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, responses)
        faults.wait_requests(2)
        with pytest.raises(ValueError, match="in use"):
            next(responses)
        faults.release()
        assert waiting.result().ok
    assert next(responses).ok


def test_closing_closes_a_generator_of_addresses(raddle, faults: Faults):
    closed = threading.Event()

    def urls():
        try:
            while True:
                yield faults.url("ok")
        finally:
            closed.set()

    responses = raddle.fetch_iter(urls())
    assert next(responses).ok
    responses.close()
    del responses
    gc.collect()
    assert closed.is_set()

"""Time limits: each phase has its name, and the clock starts when the request is sent."""

from __future__ import annotations

import pytest
from faults import Faults

SLOW = {
    "a server that never answers": ("silent", "http", "headers"),
    "headers that come one by one": ("slow-headers", "http", "headers"),
    "an interim answer after another": ("endless-continue", "http", "headers"),
    "a body that stops": ("stalled-body", "http", "body"),
    "a body that comes byte by byte": ("slow-body", "http", "body"),
    "a handshake of TLS that is not answered": ("ok", "silent", "connect"),
    "a connection that does not come about": ("ok", "full", "connect"),
}


def slow_url(faults: Faults, what: str) -> str:
    page, scheme, _ = SLOW[what]
    url = faults.url(page, scheme=scheme)
    return url.replace("http://", "https://") if scheme == "silent" else url


@pytest.mark.parametrize("what", SLOW)
def test_a_timeout_names_its_phase(raddle, faults: Faults, what):
    url = slow_url(faults, what)
    [response] = raddle.fetch([url], timeout=0.3, retries=0)
    error = response.error
    assert isinstance(error, raddle.FetchTimeout) and isinstance(error, TimeoutError)
    assert error.phase == SLOW[what][2]
    assert url in str(error) and "0.3" in str(error)
    assert response.elapsed >= 0.29, "not before its time"


@pytest.mark.parametrize("what", SLOW)
def test_get_raises_the_timeout(raddle, faults: Faults, what):
    with pytest.raises(TimeoutError) as caught:
        raddle.get(slow_url(faults, what), timeout=0.2, retries=0)
    assert caught.value.phase == SLOW[what][2]


def test_a_request_may_have_limits_of_its_own(raddle, faults: Faults):
    short = raddle.Request(faults.url("silent"), timeout=0.1)
    usual = faults.url("later", seconds=0.5)
    first, second = raddle.fetch([short, usual], timeout=30, retries=0)
    assert isinstance(first.error, TimeoutError)
    assert second.ok


def test_a_limit_for_the_connection_spares_a_slow_page(raddle, faults: Faults):
    limit = raddle.Timeout(total=30, connect=0.2)
    page, full = raddle.fetch(
        [faults.url("later", seconds=0.5), faults.url("ok", scheme="full")],
        timeout=limit,
        retries=0,
    )
    assert page.ok
    assert full.error.phase == "connect"


def test_a_limit_for_reading_spares_a_body_that_keeps_coming(raddle, faults: Faults):
    limit = raddle.Timeout(total=30, connect=10, read=0.8)
    slow, stalled = raddle.fetch(
        [faults.url("slow-body", size=50), faults.url("stalled-body")], timeout=limit, retries=0
    )
    assert slow.ok and len(slow.content) == 50, "1 s in all, never 0.8 s without a byte"
    assert stalled.error.phase == "body"


def test_no_limit_waits_as_long_as_it_takes(raddle, faults: Faults):
    for never in (None, raddle.Timeout(total=None)):
        [response] = raddle.fetch([faults.url("later", seconds=0.1)], timeout=never)
        assert response.ok


def test_the_clock_starts_at_sending_not_while_a_request_queues(raddle, faults: Faults):
    # Eight in a row take at least 1.6 s, each of them a fifth of one. aiohttp#1463 is this.
    responses = raddle.fetch(
        [faults.url("later", seconds=0.2)] * 8, concurrency=1, timeout=1.5, retries=0
    )
    assert [response.error for response in responses] == [None] * 8


def test_the_clock_does_not_run_while_a_host_is_at_its_limit(raddle, faults: Faults):
    responses = raddle.fetch(
        [faults.url("later", seconds=0.2)] * 8, per_host=1, timeout=1.5, retries=0
    )
    assert [response.error for response in responses] == [None] * 8


def test_the_clock_does_not_run_while_a_rate_spaces_requests(raddle, faults: Faults):
    responses = raddle.fetch([faults.url("ok")] * 8, rate=5, timeout=1, retries=0)
    assert [response.error for response in responses] == [None] * 8


def test_a_slow_host_does_not_hold_up_the_others(raddle, faults: Faults):
    slow = [faults.url("hold", host="127.0.0.2") for _ in range(10)]
    quick = [faults.url("ok", host="127.0.0.3") for _ in range(50)]
    done = []
    for response in raddle.fetch_iter(slow + quick, concurrency=4, per_host=2, timeout=50):
        done.append(response)
        if len(done) == len(quick):
            faults.release()
    assert all("127.0.0.3" in response.url for response in done[: len(quick)])
    assert all(response.ok for response in done) and len(done) == 60

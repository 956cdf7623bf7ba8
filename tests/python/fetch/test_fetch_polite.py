"""Manners: how many at once, how often, when to come again, and where not to go at all."""

from __future__ import annotations

import collections
import itertools

import pytest
from faults import Faults

# A clock of the server, read twice, differs a little from the one that spaced the requests.
SLACK = 0.03


def began(faults: Faults, page: str | None = None) -> list[float]:
    return [request["began"] for request in faults.requests(page)]


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def test_no_more_than_concurrency_are_under_way(raddle, faults: Faults):
    responses = raddle.fetch([faults.url("later", seconds=0.02)] * 40, concurrency=5)
    assert all(response.ok for response in responses)
    assert faults.peak() == 5


def test_as_many_as_concurrency_are_under_way(raddle, faults: Faults):
    # Each is held until all twenty have come.
    urls = [faults.url("hold")] * 20
    results = raddle.fetch_iter(urls, concurrency=20, timeout=50)
    with raddle.ThreadPoolExecutor(1) as pool:
        opened = pool.submit(lambda: (faults.wait_requests(20), faults.release()))
        assert len(list(results)) == 20
        opened.result()
    assert faults.peak() == 20


def test_no_more_than_per_host_go_to_one_host(raddle, faults: Faults):
    hosts = [f"127.0.0.{last}" for last in (11, 12, 13)]
    urls = [faults.url("later", host=host, seconds=0.02) for host in hosts * 12]
    responses = raddle.fetch(urls, per_host=2)
    assert all(response.ok for response in responses)
    assert [faults.peak(host) for host in hosts] == [2, 2, 2]


def test_per_host_takes_no_more_connections_than_that(raddle, faults: Faults):
    raddle.fetch([faults.url("ok", host="127.0.0.14")] * 60, per_host=3)
    connections = {request["connection"] for request in faults.requests()}
    assert 1 <= len(connections) <= 3


def test_a_redirect_counts_for_the_host_that_it_leads_to(raddle, faults: Faults):
    end = faults.url("later", host="127.0.0.15", seconds=0.05)
    urls = [faults.url("redirect", host=f"127.0.0.{last}", to=end) for last in range(16, 24)]
    responses = raddle.fetch(urls, per_host=1)
    assert all(response.ok for response in responses)
    assert faults.peak("127.0.0.15") == 1


def test_a_rate_spaces_the_requests_to_a_host(raddle, faults: Faults):
    raddle.fetch([faults.url("ok")] * 8, rate=20)
    assert min(gaps(began(faults))) >= 1 / 20 - SLACK


def test_a_rate_holds_for_each_host_of_its_own(raddle, faults: Faults):
    # In one line, ten hosts would take 20 s in all: the watchdog of this program is the test.
    hosts = [f"127.0.0.{last}" for last in range(21, 31)]
    urls = [faults.url("ok", host=host) for host in hosts * 2]
    assert all(response.ok for response in raddle.fetch(urls, rate=1, timeout=5))
    for host in hosts:
        times = [r["began"] for r in faults.requests() if r["host"] == host]
        assert len(times) == 2 and gaps(times)[0] >= 1 - SLACK
    firsts = {request["host"] for request in faults.requests()[:10]}
    assert firsts == set(hosts), "the hosts' first requests did not wait for each other"


def test_a_retry_keeps_the_rate_too(raddle, faults: Faults):
    raddle.fetch([faults.url("busy", times=2, n=n) for n in range(3)], rate=10, retries=2)
    times = began(faults)
    assert len(times) == 9
    assert min(gaps(sorted(times))) >= 0.1 - SLACK


SAFE = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]

# --- Coming again --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_honoured(raddle, faults: Faults, code):
    # A date has whole seconds: two of them may be little more than one.
    seconds = faults.url("busy", host="127.0.0.2", code=code, after=1)
    date = faults.url("busy", host="127.0.0.3", code=code, after=2, **{"as": "date"})
    for response in raddle.fetch([seconds, date]):
        assert (response.text, response.attempts) == ("at last", 2)
    for url in (seconds, date):
        times = [one["began"] for one in faults.requests() if url.endswith(one["target"])]
        assert gaps(times)[0] >= 1 - SLACK


def test_busy_without_retry_after_is_tried_again(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("busy", times=2)])
    assert (response.text, response.attempts) == ("at last", 3)


def test_busy_for_ever_is_the_answer(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("busy", times=99)], retries=2)
    assert (response.status, response.text, response.attempts) == (503, "not now", 3)
    assert response.error is None and not response.ok


def test_retry_after_a_day_is_not_waited_for(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("busy", after=86_400)])
    assert (response.status, response.attempts) == (503, 1)
    assert response.headers["retry-after"] == "86400"


@pytest.mark.parametrize("value", ["soon", "-5", "1e9", ""])
def test_a_retry_after_that_says_nothing_is_as_none(raddle, faults: Faults, value):
    [response] = raddle.fetch([faults.url("busy", after=value)])
    assert response.text == "at last"


def test_no_retries_means_none(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("busy")], retries=0)
    assert (response.status, response.attempts) == (503, 1)
    assert len(faults.requests()) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_what_is_safe_to_repeat_is_repeated(raddle, faults: Faults, how):
    # Hosts of their own: on a connection that was kept, a close may only mean that it was old.
    hosts = [f"127.0.0.{47 + i + len(SAFE) * (how == 'reset')}" for i in range(len(SAFE))]
    requests = [
        raddle.Request(faults.url("flaky", host=host, how=how, times=2, of=method), method=method)
        for host, method in zip(hosts, SAFE)
    ]
    for response in raddle.fetch(requests):
        assert (response.error, response.attempts) == (None, 3), response.request
    sent = collections.Counter(request["method"] for request in faults.requests())
    assert sent == dict.fromkeys(SAFE, 3)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_not_safe_is_sent_once(raddle, faults: Faults, method):
    request = raddle.Request(faults.url("flaky"), method=method, body=b"pay")
    [response] = raddle.fetch([request])
    assert isinstance(response.error, raddle.ConnectionFailed)
    assert len(faults.requests()) == 1


def test_a_post_that_was_busy_is_not_sent_again(raddle, faults: Faults):
    [response] = raddle.fetch([raddle.Request(faults.url("busy"), method="POST", body=b"pay")])
    assert response.status in (200, 503)
    # 429 and 503 say that nothing was done; whoever repeats it must have been told so.
    assert len(faults.requests()) == response.attempts


def test_a_post_that_never_left_is_tried_again(raddle, faults: Faults):
    url = faults.url("ok", scheme="refused")
    [response] = raddle.fetch([raddle.Request(url, method="POST")], retries=1)
    assert (type(response.error), response.error.attempts) == (raddle.ConnectionFailed, 2)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 500, 501])
def test_what_another_try_does_not_mend_is_the_answer(raddle, faults: Faults, code):
    [response] = raddle.fetch([faults.url("status", code=code)])
    assert (response.status, response.attempts, response.error) == (code, 1, None)


def test_which_statuses_are_tried_again_can_be_said(raddle, faults: Faults):
    url = faults.url("busy", code=500)
    [response] = raddle.fetch([url], retry_statuses=[500])
    assert (response.text, response.attempts) == ("at last", 2)


def test_the_waits_between_attempts_differ(raddle, faults: Faults):
    # Jitter: clients that failed together must not come back together.
    raddle.fetch([faults.url("busy", times=1, n=n) for n in range(12)])
    came: dict[str, list[float]] = {}
    for request in faults.requests():
        came.setdefault(request["target"], []).append(request["began"])
    waits = [gaps(times)[0] for times in came.values()]
    assert len(waits) == 12
    assert max(waits) - min(waits) > SLACK


def test_others_go_on_while_one_waits_to_be_tried_again(raddle, faults: Faults):
    urls = [faults.url("busy", host="127.0.0.2", after=1), *[faults.url("ok")] * 20]
    order = [response.text for response in raddle.fetch_iter(urls, concurrency=1)]
    assert order[-1] == "at last" and len(order) == 21


# --- robots.txt ----------------------------------------------------------------------------------

RULES = """
User-agent: *
Disallow: /*/status
Allow: /*/status?code=404
Crawl-delay: 0

User-agent: special
Disallow: /
"""


def test_robots_are_asked_only_if_wished(raddle, faults: Faults):
    host = "127.0.0.31"
    faults.robots(host, "User-agent: *\nDisallow: /")
    assert raddle.fetch([faults.url("ok", host=host)])[0].ok
    [response] = raddle.fetch([faults.url("ok", host=host)], robots=True)
    assert isinstance(response.error, raddle.RobotsDenied)
    assert "robots.txt" in str(response.error)
    assert len(faults.requests()) == 1, "the refused page was not asked for"


def test_the_rules_are_followed(raddle, faults: Faults):
    host = "127.0.0.32"
    faults.robots(host, RULES)
    urls = [
        faults.url("ok", host=host),
        faults.url("status", host=host, code=200),
        faults.url("status", host=host, code=404),
    ]
    responses = raddle.fetch(urls, robots=True)
    assert [type(response.error).__name__ for response in responses] == [
        "NoneType", "RobotsDenied", "NoneType",
    ]  # fmt: skip


def test_the_rules_for_a_user_agent_are_followed(raddle, faults: Faults):
    host = "127.0.0.33"
    faults.robots(host, RULES)
    [response] = raddle.fetch(
        [faults.url("ok", host=host)], robots=True, headers={"User-Agent": "Special/1.0"}
    )
    assert isinstance(response.error, raddle.RobotsDenied)


def test_robots_txt_is_asked_for_once_a_host_and_call(raddle, faults: Faults):
    host = "127.0.0.34"
    faults.robots(host, RULES)
    everything = Faults(faults.server, "robots.txt")
    before = len([r for r in everything.requests() if r["host"] == host])
    raddle.fetch([faults.url("ok", host=host)] * 30, robots=True)
    after = len([r for r in everything.requests() if r["host"] == host])
    assert after - before == 1


@pytest.mark.parametrize("status, allowed", [(404, True), (403, True), (503, False)])
def test_a_missing_robots_txt_allows_and_a_failing_one_does_not(
    raddle, faults: Faults, status, allowed
):
    host = f"127.0.0.{35 + status % 5}"
    faults.robots(host, "User-agent: *\nDisallow: /", status)
    [response] = raddle.fetch([faults.url("ok", host=host)], robots=True, retries=0)
    assert response.ok is allowed
    if not allowed:
        assert isinstance(response.error, raddle.RobotsDenied)


def test_a_redirect_obeys_the_robots_of_where_it_leads(raddle, faults: Faults):
    host = "127.0.0.41"
    faults.robots(host, "User-agent: *\nDisallow: /")
    url = faults.url("redirect", to=faults.url("ok", host=host))
    [response] = raddle.fetch([url], robots=True)
    assert isinstance(response.error, raddle.RobotsDenied)
    assert [request["page"] for request in faults.requests()] == ["redirect"]

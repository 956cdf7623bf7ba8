"""The calls and what they give: order, requests with all their parts, responses with all theirs."""

from __future__ import annotations

import collections.abc
import copy
import json
import pickle
import socket
import threading

import pytest
from faults import Faults, header

SIZES = [0, 1, 13, 1000, 8191, 8192, 70_000, 1_000_000]


def received(response):
    """What the page ``echo`` says that it received."""
    told = response.json()
    told["headers"] = {name.lower(): value for name, value in told["headers"]}
    return told


def test_the_responses_are_in_the_order_of_the_addresses(raddle, faults: Faults):
    urls = [faults.url("later", seconds=0.03 * (7 - n), n=n) for n in range(7)]
    responses = raddle.fetch(urls)
    assert isinstance(responses, list)
    assert [response.request.url for response in responses] == urls


def test_every_body_is_whole(raddle, faults: Faults):
    responses = raddle.fetch([faults.url("ok", size=size) for size in SIZES * 3])
    for size, response in zip(SIZES * 3, responses):
        lines = b"".join(b"%07d\n" % n for n in range(size // 8 + 1))
        assert response.content == lines[:size]


def test_no_addresses_give_no_responses(raddle):
    assert raddle.fetch([]) == []
    assert raddle.fetch(iter(())) == []


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda urls: (url for url in urls)])
def test_the_addresses_may_be_any_iterable(raddle, faults: Faults, kind):
    urls = [faults.url("ok", n=n) for n in range(5)]
    assert [response.url for response in raddle.fetch(kind(urls))] == urls


def test_the_same_address_many_times_is_many_requests(raddle, faults: Faults):
    assert len(raddle.fetch([faults.url("ok")] * 7)) == 7
    assert len(faults.requests()) == 7


def test_get_gives_one_response(raddle, faults: Faults):
    response = raddle.get(faults.url("ok"))
    assert isinstance(response, raddle.Response)
    assert (response.status, response.ok, len(response.content)) == (200, True, 13)


def test_get_gives_an_answer_of_any_status(raddle, faults: Faults):
    response = raddle.get(faults.url("status", code=404))
    assert (response.status, response.ok) == (404, False)


def test_connections_are_kept_between_calls(raddle, faults: Faults):
    for _ in range(5):
        raddle.get(faults.url("ok", host="127.0.0.45"))
        raddle.fetch([faults.url("ok", host="127.0.0.45")])
    assert len({request["connection"] for request in faults.requests()}) == 1


def test_get_works_in_many_threads_at_once(raddle, faults: Faults):
    meeting, lost = threading.Barrier(16), []

    def work(name: int) -> None:
        meeting.wait()
        for n in range(30):
            response = raddle.get(faults.url("ok", size=name * 100 + n))
            if len(response.content) != name * 100 + n:
                lost.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert len(faults.requests()) == 16 * 30


def test_batches_of_several_threads_run_beside_each_other(raddle, faults: Faults):
    # Each batch is held until all four have sent theirs.
    with raddle.ThreadPoolExecutor(5) as pool:
        batches = [pool.submit(raddle.fetch, [faults.url("hold")] * 3, timeout=50) for _ in "1234"]
        faults.wait_requests(12)
        faults.release()
        assert all(response.ok for batch in batches for response in batch.result())


def test_other_threads_run_while_a_batch_waits(raddle, faults: Faults):
    with raddle.ThreadPoolExecutor(1) as pool:
        batch = pool.submit(raddle.fetch, [faults.url("hold")], timeout=50)
        faults.wait_requests(1)
        assert not batch.done()
        faults.release()
        assert batch.result()[0].text == "released"


# --- Requests ------------------------------------------------------------------------------------


def test_an_item_may_be_a_request(raddle, faults: Faults):
    request = raddle.Request(
        faults.url("echo"), method="post", headers={"X-Note": "yes"}, body=b"data"
    )
    [response] = raddle.fetch([request])
    told = received(response)
    assert (told["method"], told["headers"]["x-note"], told["body"]) == ("POST", "yes", "ZGF0YQ==")
    assert response.request is request or response.request.url == request.url


def test_parameters_are_added_to_the_address(raddle, faults: Faults):
    params = {"q": "caf\xe9 & more", "n": 7, "many": ["a", "b"]}
    plain, joined = raddle.fetch(
        [
            raddle.Request(faults.url("echo"), params=params),
            raddle.Request(faults.url("echo", first=1), params=params),
        ]
    )
    query = "q=caf%C3%A9+%26+more&n=7&many=a&many=b"
    assert received(plain)["target"].partition("?")[2].replace("%20", "+") == query
    assert received(joined)["target"].partition("?")[2].replace("%20", "+") == f"first=1&{query}"


def test_parameters_and_headers_of_the_call_are_those_of_every_request(raddle, faults: Faults):
    urls = [faults.url("echo"), raddle.Request(faults.url("echo"), headers={"X-Own": "1"})]
    for response in raddle.fetch(urls, params={"a": "1"}, headers={"X-All": "yes"}):
        assert received(response)["target"].endswith("?a=1")
        assert received(response)["headers"]["x-all"] == "yes"
    assert received(response)["headers"]["x-own"] == "1"


def test_a_requests_own_header_stands_above_the_calls(raddle, faults: Faults):
    request = raddle.Request(faults.url("echo"), headers={"x-note": "own"})
    [response] = raddle.fetch([request], headers={"X-Note": "call"})
    values = [v for n, v in faults.requests()[0]["headers"] if n.lower() == "x-note"]
    assert response.ok and values == ["own"]


@pytest.mark.parametrize("pairs", [[("a", "1"), ("a", "2")], (("a", "1"), ("a", "2"))])
def test_headers_and_parameters_may_repeat(raddle, faults: Faults, pairs):
    raddle.fetch([raddle.Request(faults.url("echo"), headers=pairs, params=pairs)])
    [request] = faults.requests()
    assert request["target"].endswith("?a=1&a=2")
    assert [v for n, v in request["headers"] if n.lower() == "a"] == ["1", "2"]


def test_json_is_sent_as_json(raddle, faults: Faults):
    value = {"name": "caf\xe9", "list": [1, None, True]}
    [response] = raddle.fetch([raddle.Request(faults.url("echo"), method="POST", json=value)])
    [request] = faults.requests()
    assert response.ok and json.loads(request["body"].encode("latin-1")) == value
    assert header(request, "content-type").startswith("application/json")


@pytest.mark.parametrize("body", ["caf\xe9", b"caf\xc3\xa9", bytearray(b"caf\xc3\xa9")])
def test_a_body_may_be_text_or_bytes(raddle, faults: Faults, body):
    raddle.fetch([raddle.Request(faults.url("echo"), method="PUT", body=body)])
    [request] = faults.requests()
    assert request["body"].encode("latin-1") == b"caf\xc3\xa9"
    assert header(request, "content-length") == "5"


def test_a_large_body_arrives_whole(raddle, faults: Faults):
    body = bytes(range(256)) * 8000
    raddle.fetch([raddle.Request(faults.url("echo"), method="POST", body=body)])
    assert faults.requests()[0]["body"].encode("latin-1") == body


def test_user_and_password_are_sent(raddle, faults: Faults):
    urls = [
        raddle.Request(faults.url("secret"), auth=("user", "p\xe4ss")),
        faults.url("secret").replace("http://", "http://user:p%C3%A4ss@"),
        faults.url("secret"),
    ]
    own, address, without = raddle.fetch(urls)
    assert (own.text, address.text, without.status) == ("welcome", "welcome", 401)
    [call] = raddle.fetch([faults.url("secret")], auth=("user", "p\xe4ss"))
    assert call.text == "welcome"


def test_a_user_agent_is_sent_and_can_be_replaced(raddle, faults: Faults):
    raddle.get(faults.url("ok"))
    raddle.get(faults.url("ok"), headers={"User-Agent": "mine/1.0"})
    first, second = faults.requests()
    assert header(first, "user-agent").startswith("raddle/")
    assert header(second, "user-agent") == "mine/1.0"


def test_a_host_is_told_as_the_address_says(raddle, faults: Faults):
    port = faults.server.ports["http"]
    raddle.fetch([faults.url("ok"), faults.url("ok", host="localhost")], concurrency=1)
    assert {header(r, "host") for r in faults.requests()} == {
        f"127.0.0.1:{port}",
        f"localhost:{port}",
    }


def test_ipv6_is_spoken(raddle, faults: Faults):
    if not faults.server.ports["ipv6"]:
        pytest.skip("this machine's loopback has no IPv6")
    [response] = raddle.fetch([faults.url("ok", host="[::1]")])
    assert response.ok
    assert faults.requests()[0]["host"] == "[::1]"


def test_a_name_with_several_addresses_falls_back_to_the_one_that_answers(raddle, faults: Faults):
    # localhost is ::1 first on many machines; this listener is on 127.0.0.1 alone.
    families = {a[0] for a in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
    assert socket.AF_INET in families
    url = faults.url("ok", host="localhost", scheme="https")
    assert raddle.get(url, verify=faults.file("ca.pem")).ok


def test_a_request_can_be_read_back_and_compared(raddle):
    request = raddle.Request("http://127.0.0.1/a", method="post", headers={"A": "1"}, timeout=3)
    assert (request.url, request.method.upper()) == ("http://127.0.0.1/a", "POST")
    assert "post" in repr(request).lower() and "http://127.0.0.1/a" in repr(request)
    again = pickle.loads(pickle.dumps(request))
    assert (again.url, again.method) == (request.url, request.method)
    assert repr(again) == repr(request)


def test_a_requests_secrets_are_not_shown(raddle):
    request = raddle.Request("http://127.0.0.1/", auth=("user", "secret"))
    assert "secret" not in repr(request)


# --- Responses -----------------------------------------------------------------------------------


def test_a_response_tells_all_that_there_is(raddle, faults: Faults):
    response = raddle.get(faults.url("later", seconds=0.1))
    assert response.url == response.request.url == faults.url("later", seconds=0.1)
    assert (response.status, response.ok, response.error, response.attempts) == (200, True, None, 1)
    assert isinstance(response.elapsed, float) and response.elapsed >= 0.1
    assert (response.content, response.text) == (b"later", "later")
    assert response.raise_for_status() in (None, response)


def test_headers_are_a_mapping_that_knows_no_case(raddle, faults: Faults):
    lines = "X-Many: one\nX-Many: two\nx-many: three\nSet-Cookie: a=1, b\nSet-Cookie: c=2"
    response = raddle.get(faults.url("given", header=lines, body="x"))
    headers = response.headers
    assert isinstance(headers, collections.abc.Mapping)
    assert headers["x-MANY"] == "one, two, three"
    assert headers.get_all("X-Many") == ["one", "two", "three"]
    assert headers.get_all("set-cookie") == ["a=1, b", "c=2"]
    assert headers.get_all("x-none") == []
    assert "content-LENGTH" in headers and headers["Content-Length"] == "1"
    assert "X-None" not in headers and headers.get("X-None", 7) == 7
    assert {name.lower() for name in headers} == {"x-many", "set-cookie", "content-length"}
    assert len(headers) == 3
    assert dict(headers)[next(iter(headers))]
    with pytest.raises(KeyError, match="X-None"):
        headers["X-None"]


def test_repr_is_for_people(raddle, faults: Faults):
    good = raddle.get(faults.url("ok", size=12_345))
    missing = raddle.get(faults.url("status", code=404))
    [bad] = raddle.fetch([faults.url("ok", scheme="refused")], retries=0)
    assert repr(good).startswith(f"<Response 200 {faults.url('ok', size=12345)}")
    assert "12,345 bytes" in repr(good)
    assert repr(missing).startswith("<Response 404 ")
    assert bad.url in repr(bad) and "no connection" in repr(bad)


def test_a_response_with_an_error_has_no_answer(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("ok", scheme="refused")], retries=1)
    assert (response.status, response.ok, response.content, response.text) == (None, False, b"", "")
    assert len(response.headers) == 0
    assert response.attempts == 2 == response.error.attempts
    assert response.url == response.request.url == response.error.url
    with pytest.raises(raddle.ConnectionFailed):
        response.raise_for_status()


@pytest.mark.parametrize("code", [400, 404, 429, 500, 503])
def test_raise_for_status_raises_what_the_server_said(raddle, faults: Faults, code):
    response = raddle.get(faults.url("status", code=code), retries=0)
    with pytest.raises(raddle.HTTPStatusError, match=str(code)) as caught:
        response.raise_for_status()
    assert caught.value.response is response
    assert caught.value.url == response.url
    assert isinstance(caught.value, raddle.FetchError)


@pytest.mark.parametrize("code", [200, 204, 304])
def test_raise_for_status_is_content_with_success(raddle, faults: Faults, code):
    response = raddle.get(faults.url("status", code=code))
    response.raise_for_status()
    assert response.ok


def test_a_response_can_be_pickled_and_copied(raddle, faults: Faults):
    urls = [faults.url("ok", size=1000), faults.url("status", code=404)]
    for response in raddle.fetch(urls):
        for again in (pickle.loads(pickle.dumps(response)), copy.copy(response)):
            assert type(again) is raddle.Response
            for name in "url status ok content text elapsed attempts error".split():
                assert getattr(again, name) == getattr(response, name), name
            assert dict(again.headers) == dict(response.headers)
            assert again.request.url == response.request.url


def test_a_response_with_an_error_can_be_pickled(raddle, faults: Faults):
    urls = [faults.url("ok", scheme="refused"), "no url", faults.url("silent")]
    for response in raddle.fetch(urls, retries=0, timeout=0.1):
        again = pickle.loads(pickle.dumps(response))
        assert type(again.error) is type(response.error)
        assert str(again.error) == str(response.error)
        for name in ("url", "attempts", "phase"):
            assert getattr(again.error, name, None) == getattr(response.error, name, None)


def test_a_status_error_can_be_pickled(raddle, faults: Faults):
    with pytest.raises(raddle.HTTPStatusError) as caught:
        raddle.get(faults.url("status", code=404)).raise_for_status()
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.response.status == 404


def test_errors_have_the_parents_that_people_catch(raddle):
    parents = {
        "FetchTimeout": TimeoutError,
        "ConnectionFailed": ConnectionError,
        "InvalidURL": ValueError,
    }
    names = "FetchError DNSFailed TLSFailed TooManyRedirects TooLarge HTTPStatusError RobotsDenied"
    for name in [*parents, *names.split(), "InvalidResponse"]:
        error = getattr(raddle, name)
        assert issubclass(error, raddle.FetchError) and issubclass(error, raddle.RaddleError)
        assert issubclass(error, parents.get(name, Exception))
        assert name in raddle.__all__


def test_nothing_is_lost_among_many_hosts_some_of_them_dead(raddle, faults: Faults):
    hosts = [f"127.0.0.{last}" for last in range(1, 61)] + ["127.0.1.1", "127.0.1.2"]
    urls = [faults.url("ok", host=hosts[n % 62], size=n % 100) for n in range(2000)]
    responses = raddle.fetch(urls, retries=0)
    assert [response.request.url for response in responses] == urls
    for n, response in enumerate(responses):
        if n % 62 >= 60:  # where nobody listens
            assert isinstance(response.error, raddle.ConnectionFailed)
        else:
            assert response.error is None and len(response.content) == n % 100
    alive = sum(n % 62 < 60 for n in range(2000))
    assert len(faults.requests()) == alive, "each was asked for once"

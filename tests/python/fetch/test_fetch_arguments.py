"""Bad arguments: each is refused at the call, or is that one item's error, with a plain message."""

from __future__ import annotations

import pytest
from faults import Faults

CALLS = {
    "fetch": lambda raddle, urls, **given: raddle.fetch(urls, **given),
    "fetch_iter": lambda raddle, urls, **given: list(raddle.fetch_iter(urls, **given)),
}

WRONG = {
    "concurrency": [
        (0, ValueError),
        (10**30, ValueError),
        (-1, ValueError),
        (1.5, TypeError),
        ("8", TypeError),
    ],
    "per_host": [(0, ValueError), (-2, ValueError), ("2", TypeError)],
    "rate": [
        (0, ValueError),
        (-1.0, ValueError),
        (float("nan"), ValueError),
        (10**400, ValueError),
    ],
    "timeout": [(0, ValueError), (-1, ValueError), ("10", TypeError), (10**400, ValueError)],
    "retries": [(-1, ValueError), (10**30, ValueError), (1.5, TypeError), ("2", TypeError)],
    "max_bytes": [(-1, ValueError), (10**30, ValueError), (1.5, TypeError), ("1", TypeError)],
    "headers": [
        ("a: 1", TypeError),
        (7, TypeError),
        ({"Content-Length": "0"}, ValueError),
        ([("Host", "a"), ("host", "b")], ValueError),
        ({"x": "\ud800"}, ValueError),
    ],
    "params": [(7, TypeError), ({"q": b"\xff"}, ValueError), ({"q": "\ud800"}, ValueError)],
    "auth": [(("a", "b", "c"), (TypeError, ValueError)), (7, TypeError)],
    "follow_redirects": [(10**30, ValueError), (-1, ValueError), ("no", TypeError)],
    "on_error": [("ignore", ValueError)],
    "progress": [("bar", TypeError)],
    "verify": [(7, TypeError)],
    "cert": [(7, TypeError), (("a", "b", "c"), (TypeError, ValueError))],
    "retry_statuses": [(["x"], (TypeError, ValueError))],
}
CASES = [(name, value, error) for name, cases in WRONG.items() for value, error in cases]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name, value, error", CASES, ids=lambda value: repr(value)[:30])
def test_a_bad_argument_is_named_and_nothing_is_sent(
    raddle, faults: Faults, call, name, value, error
):
    with pytest.raises(error, match=name):
        CALLS[call](raddle, [faults.url("ok")], **{name: value})
    assert faults.requests() == []


def test_an_iterator_checks_its_arguments_when_it_is_made(raddle):
    with pytest.raises(ValueError, match="concurrency"):
        raddle.fetch_iter([], concurrency=0)


def test_an_unknown_argument_is_refused(raddle):
    with pytest.raises(TypeError, match="timeouts"):
        raddle.fetch([], timeouts=3)


def test_a_header_that_is_no_text_is_named(raddle, faults: Faults):
    with pytest.raises(TypeError, match="X-Note"):
        raddle.fetch([faults.url("ok")], headers={"X-Note": object()})


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("one", ["http://127.0.0.1/", b"http://127.0.0.1/"])
def test_one_address_in_place_of_a_list_is_refused(raddle, call, one):
    with pytest.raises(TypeError, match="list"):
        CALLS[call](raddle, one)


@pytest.mark.parametrize("urls", [None, 7, 1.5])
def test_what_cannot_be_iterated_is_refused(raddle, urls):
    with pytest.raises(TypeError):
        raddle.fetch(urls)


@pytest.mark.parametrize("item", [None, 7, b"http://127.0.0.1/", ["http://127.0.0.1/"]])
def test_an_item_that_is_no_address_is_refused_with_its_place(raddle, faults: Faults, item):
    with pytest.raises(TypeError, match="2"):
        raddle.fetch([faults.url("ok"), faults.url("ok"), item])


BAD_URLS = [
    "", " ", "no url", "www.python.org", "//127.0.0.1/a", "/a", "http://",
    "ftp://127.0.0.1/", "file:///etc/passwd", "javascript:alert(1)", "http://[::1", "http://a b/",
    "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "mailto:a@b.c", "http://a\x00b/",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_address_is_that_responses_error(raddle, faults: Faults, url):
    before, bad, after = raddle.fetch([faults.url("ok"), url, faults.url("ok")])
    assert before.ok and after.ok
    assert isinstance(bad.error, raddle.InvalidURL) and isinstance(bad.error, ValueError)
    assert bad.request.url == url
    with pytest.raises(raddle.InvalidURL):
        raddle.get(url)


# --- No header, request or host that was not meant ----------------------------------------------

SMUGGLED = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0b", "\r\n\r\nGET /evil HTTP/1.1"]


@pytest.mark.parametrize("value", SMUGGLED)
def test_a_line_break_in_a_header_of_the_call_is_refused(raddle, faults: Faults, value):
    with pytest.raises(ValueError, match="X-Note"):
        raddle.fetch([faults.url("ok")], headers={"X-Note": value})
    with pytest.raises(ValueError):
        raddle.fetch([faults.url("ok")], headers={value: "x"})
    assert faults.requests() == []


@pytest.mark.parametrize("value", SMUGGLED)
def test_a_line_break_in_a_request_sends_nothing(raddle, faults: Faults, value):
    def made(**given):
        """The request, refused when it is made or as its response's error."""
        try:
            [response] = raddle.fetch([raddle.Request(faults.url("ok"), **given)])
        except ValueError:
            return None
        return response

    for given in ({"headers": {"X-Note": value}}, {"headers": {value: "x"}}, {"method": value}):
        response = made(**given)
        assert response is None or isinstance(response.error, ValueError), given
    assert faults.requests() == []


@pytest.mark.parametrize("value", SMUGGLED)
def test_a_line_break_in_an_address_smuggles_nothing(raddle, faults: Faults, value):
    url = faults.url("ok")
    raddle.fetch([f"{url}?{value}", f"{url}/{value}", url.replace("127", f"127{value}")], retries=0)
    for request in faults.requests():
        assert request["page"] == "ok"
        assert "x-evil" not in {name.lower() for name, _ in request["headers"]}


@pytest.mark.parametrize("value", SMUGGLED)
def test_a_line_break_in_credentials_or_cookies_smuggles_nothing(raddle, faults: Faults, value):
    for given in ({"auth": ("user", value)}, {"auth": (value, "x")}, {"params": {"a": value}}):
        try:
            raddle.fetch([faults.url("ok")], **given)
        except ValueError:
            continue
    for request in faults.requests():
        assert "x-evil" not in {name.lower() for name, _ in request["headers"]}
        assert "\n" not in request["target"] and request["page"] == "ok"


def test_a_cookie_of_the_server_smuggles_nothing(raddle, faults: Faults):
    urls = [faults.url("cookies", set="a=1\rX-Evil: 1"), faults.url("cookies")]
    raddle.fetch(urls, cookies=True, concurrency=1, retries=0)
    for request in faults.requests():
        assert "x-evil" not in {name.lower() for name, _ in request["headers"]}


@pytest.mark.parametrize("method", ["", "GET /evil", "GE T", "CONNECT", 7])
def test_a_method_that_is_none_is_refused(raddle, faults: Faults, method):
    try:
        [response] = raddle.fetch([raddle.Request(faults.url("ok"), method=method)])
    except (TypeError, ValueError) as error:
        assert "method" in str(error)
    else:
        assert isinstance(response.error, ValueError)
    assert faults.requests() == []


WRONG_PARTS = {
    "headers": 7,
    "params": 7,
    "body": 7,
    "auth": ("user",),
    "timeout": "soon",
    "json": {"a": object()},
}


@pytest.mark.parametrize("name", WRONG_PARTS)
def test_a_bad_part_of_a_request_is_named(raddle, name):
    with pytest.raises((TypeError, ValueError), match=name):
        request = raddle.Request("http://127.0.0.1/", **{name: WRONG_PARTS[name]})
        raddle.fetch([request])[0].raise_for_status()


def test_body_and_json_together_are_refused(raddle):
    with pytest.raises((TypeError, ValueError), match="json"):
        raddle.Request("http://127.0.0.1/", body=b"a", json={})


@pytest.mark.parametrize("given", [{"total": -1}, {"connect": 0}, {"read": "x"}, {"total": True}])
def test_a_bad_limit_is_refused(raddle, given):
    with pytest.raises((TypeError, ValueError), match=next(iter(given))):
        raddle.Timeout(**given)


@pytest.mark.parametrize(
    "given",
    [{"on_error": "return"}, {"rate": 1}, {"per_host": 1}, {"concurrency": 1}, {"progress": True}],
    ids=str,
)
def test_get_refuses_what_is_for_many(raddle, faults: Faults, given):
    with pytest.raises(TypeError, match=rf"get\(\).*{next(iter(given))}"):
        raddle.get(faults.url("ok"), **given)
    assert faults.requests() == []


class Unreadable(dict):
    """A mapping that cannot be read."""

    def items(self):
        raise RuntimeError("not now")


def broken_requests(raddle, url: str):
    changed = raddle.Request(url)
    changed.params = {"q": b"\xff"}
    return {
        "json": raddle.Request(url, "POST", json=object()),
        "json ": raddle.Request(url, "POST", json=Unreadable(a=1)),
        "json  ": raddle.Request(url, "POST", json="\ud800"),
        "body": raddle.Request(url, "POST", body="\ud800"),
        "params": changed,
        "Content-Length": raddle.Request(url, "POST", body="four", headers={"Content-Length": 0}),
        "content-length": raddle.Request(url, headers={"content-length": "100"}),
        "Host": raddle.Request(url, headers=[("Host", "a"), ("Host", "b")]),
    }


CASES_OF_REQUESTS = "json,json ,json  ,body,params,Content-Length,content-length,Host".split(",")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", CASES_OF_REQUESTS)
def test_a_request_that_cannot_be_made_costs_no_other(raddle, faults: Faults, call, name):
    request = broken_requests(raddle, faults.url("echo"))[name]
    responses = CALLS[call](raddle, [faults.url("ok"), request, faults.url("ok")])
    assert sorted(response.ok for response in responses) == [False, True, True]
    [error] = [response.error for response in responses if response.error]
    assert isinstance(error, raddle.InvalidRequest) and error.attempts == 0
    assert name.strip().lower() in str(error).lower()
    assert faults.requests("echo") == []
    with pytest.raises(raddle.InvalidRequest):
        raddle.get(request)


def test_a_length_that_fits_is_sent_once(raddle, faults: Faults):
    request = raddle.Request(faults.url("echo"), "POST", body="four", headers={"content-length": 4})
    assert raddle.fetch([request])[0].ok
    [received] = faults.requests("echo")
    lengths = [value for name, value in received["headers"] if name.lower() == "content-length"]
    assert lengths == ["4"]


@pytest.mark.parametrize("kind", ["url", "request"])
def test_an_address_with_half_a_character_is_not_another_address(raddle, faults: Faults, kind):
    url = faults.url("ok") + "?name=\udce9"
    item = url if kind == "url" else raddle.Request(url)
    bad, good = raddle.fetch([item, faults.url("ok")])
    assert isinstance(bad.error, raddle.InvalidURL) and good.ok
    assert len(faults.requests()) == 1
    with pytest.raises(raddle.InvalidURL, match="surrogate"):
        raddle.get(item)


@pytest.mark.parametrize("password", ["s3cret", "s3@s3cret", "s3cret/s3", "s3cret" * 60])
@pytest.mark.parametrize("rest", ["[bad/", "host:port/", "host/\udce9"])
def test_a_bad_address_does_not_show_its_password(raddle, password, rest):
    [response] = raddle.fetch([f"http://user:{password}@{rest}"])
    assert isinstance(response.error, raddle.InvalidURL)
    for shown in (str(response.error), repr(response), response.url):
        assert "s3" not in shown

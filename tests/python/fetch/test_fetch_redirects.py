"""Redirects and cookies: followed as everybody follows them, and no secret goes elsewhere."""

from __future__ import annotations

import base64
import json

import pytest
from faults import Faults, header

OTHER = "127.0.0.2"
BASIC = "Basic " + base64.b64encode(b"user:secret").decode()


def to(faults: Faults, target: str, code: int = 302, **where: str) -> str:
    return faults.url("redirect", to=target, code=code, **where)


def test_a_redirect_is_followed_to_its_end(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("redirects", n=5)])
    assert response.url == faults.url("redirects", n=0)
    assert response.request.url == faults.url("redirects", n=5)
    assert response.text == "arrived"
    assert len(faults.requests()) == 6


def test_a_redirect_is_the_answer_if_it_is_not_to_be_followed(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("redirects", n=5)], follow_redirects=False)
    assert (response.status, response.headers["location"]) == (302, "redirects?n=4")
    assert response.ok
    assert len(faults.requests()) == 1


def test_a_number_bounds_them(raddle, faults: Faults):
    few = raddle.fetch([faults.url("redirects", n=2)], follow_redirects=2)[0]
    many = raddle.fetch([faults.url("redirects", n=3)], follow_redirects=2)[0]
    assert few.ok
    assert isinstance(many.error, raddle.TooManyRedirects)


def test_endless_redirects_end(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("endless-redirects")])
    assert isinstance(response.error, raddle.TooManyRedirects)
    assert "20" in str(response.error)
    assert len(faults.requests()) == 21


def test_a_circle_ends(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("redirect", to="?to=redirect")])
    assert response.error is None or isinstance(response.error, raddle.TooManyRedirects)
    [response] = raddle.fetch([faults.url("redirect", to="")])
    assert isinstance(response.error, raddle.TooManyRedirects)


def test_a_redirect_to_nowhere_is_the_answer(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("redirect")])
    assert (response.status, response.error) == (302, None)


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "javascript:alert(1)",
        "data:,hello",
        "http://[bad",
    ],
)
def test_a_redirect_out_of_the_web_is_an_error(raddle, faults: Faults, target):
    [response] = raddle.fetch([to(faults, target)], retries=0)
    assert isinstance(response.error, raddle.FetchError)
    assert not response.ok
    assert len(faults.requests()) == 1


@pytest.mark.parametrize("code", [301, 302, 303])
def test_a_post_becomes_a_get(raddle, faults: Faults, code):
    url = to(faults, "echo", code)
    [response] = raddle.fetch([raddle.Request(url, method="POST", body=b"data")])
    second = faults.requests()[1]
    assert response.ok and (second["method"], second["body"]) == ("GET", "")
    for name in ("content-length", "content-type"):
        assert header(second, name) is None


@pytest.mark.parametrize("code", [307, 308])
def test_a_post_stays_a_post_where_the_server_says_so(raddle, faults: Faults, code):
    url = to(faults, "echo", code)
    [response] = raddle.fetch([raddle.Request(url, method="POST", body=b"data")])
    second = faults.requests()[1]
    assert response.ok and (second["method"], second["body"]) == ("POST", "data")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_head_stays_a_head(raddle, faults: Faults, code):
    [response] = raddle.fetch([raddle.Request(to(faults, "ok", code), method="HEAD")])
    assert response.content == b""
    assert [request["method"] for request in faults.requests()] == ["HEAD", "HEAD"]


SECRETS = {
    "auth": {"auth": ("user", "secret")},
    "a header of the call": {"headers": {"Authorization": BASIC}},
    "a cookie by hand": {"headers": {"Cookie": "session=secret"}},
}
ELSEWHERE = {
    "another host": {"host": OTHER},
    "another port": {"scheme": "https"},
    "another scheme": {"scheme": "https"},
}


def secrets(request: dict[str, object]) -> list[str | None]:
    return [header(request, name) for name in ("authorization", "cookie", "proxy-authorization")]


@pytest.mark.parametrize("how", SECRETS)
def test_secrets_stay_with_their_host(raddle, faults: Faults, how):
    elsewhere = faults.url("echo", host=OTHER)
    [response] = raddle.fetch([to(faults, elsewhere)], **SECRETS[how])
    first, second = faults.requests()
    assert response.ok and second["host"] == OTHER
    assert any(secrets(first)) and not any(secrets(second))


@pytest.mark.parametrize("how", SECRETS)
def test_secrets_go_along_on_the_same_host(raddle, faults: Faults, how):
    [response] = raddle.fetch([to(faults, "echo")], **SECRETS[how])
    first, second = faults.requests()
    assert response.ok
    assert any(secrets(first)) and secrets(first) == secrets(second)


@pytest.mark.parametrize("how", SECRETS)
@pytest.mark.parametrize("start, end", [("https", "http"), ("http", "https"), ("https", "h2")])
def test_secrets_stay_with_their_scheme_and_port(raddle, faults: Faults, how, start, end):
    url = to(faults, faults.url("echo", scheme=end), scheme=start)
    [response] = raddle.fetch([url], verify=faults.file("ca.pem"), **SECRETS[how])
    first, second = faults.requests()
    assert response.ok, response.error
    assert (first["scheme"], second["scheme"]) == (start, end)
    assert any(secrets(first)) and not any(secrets(second))


def test_secrets_do_not_come_back_after_a_way_through_another_host(raddle, faults: Faults):
    back = faults.url("echo")
    url = to(faults, faults.url("redirect", host=OTHER, to=back))
    [response] = raddle.fetch([url], auth=("user", "secret"))
    assert response.ok
    assert [any(secrets(request)) for request in faults.requests()] == [True, False, False]


def test_secrets_of_a_request_stay_with_their_host_too(raddle, faults: Faults):
    url = to(faults, faults.url("echo", host=OTHER))
    requests = [
        raddle.Request(url, auth=("user", "secret")),
        raddle.Request(url, headers={"Authorization": BASIC}),
        url.replace("http://", "http://user:secret@"),
    ]
    assert all(response.ok for response in raddle.fetch(requests, concurrency=1))
    received = faults.requests()
    assert [any(secrets(one)) for one in received] == [True, False] * 3
    assert [header(one, "authorization") for one in received[::2]] == [BASIC] * 3


def test_a_secret_of_the_address_is_not_told_on(raddle, faults: Faults):
    url = faults.url("ok", scheme="refused").replace("http://", "http://user:secret@")
    [response] = raddle.fetch([url], retries=0)
    assert response.error is not None
    assert "secret" not in str(response.error) and "secret" not in repr(response)
    fine = faults.url("ok").replace("http://", "http://user:secret@")
    [response] = raddle.fetch([fine])
    assert "secret" not in repr(response) and "secret" not in response.url


def test_other_headers_go_along_everywhere(raddle, faults: Faults):
    url = to(faults, faults.url("echo", host=OTHER))
    raddle.fetch([url], headers={"X-Note": "kept", "Host": "127.0.0.9"})
    first, second = faults.requests()
    assert header(first, "x-note") == header(second, "x-note") == "kept"
    assert OTHER in header(second, "host"), "the host's name is of the first host only"


def test_an_address_with_odd_letters_is_followed(raddle, faults: Faults):
    target = b"echo?q=caf\xc3\xa9 x"
    [response] = raddle.fetch([faults.url("redirect", to=target)])
    assert response.ok, response.error
    assert faults.requests()[1]["target"].endswith("echo?q=caf%C3%A9%20x")


def test_a_fragment_is_not_sent(raddle, faults: Faults):
    raddle.fetch([faults.url("ok") + "#part"])
    assert faults.requests()[0]["target"].endswith("/ok")


# --- Cookies -------------------------------------------------------------------------------------


def test_cookies_are_kept_within_a_call_if_asked_for(raddle, faults: Faults):
    url = faults.url("cookies", set="a=1\nb=2; HttpOnly", to="cookies")
    assert json.loads(raddle.fetch([url], cookies=True)[0].text) in ("a=1; b=2", "b=2; a=1")
    assert json.loads(raddle.fetch([url])[0].text) is None
    assert json.loads(raddle.fetch([faults.url("cookies")], cookies=True)[0].text) is None


def test_cookies_go_to_the_next_request_of_the_call(raddle, faults: Faults):
    urls = [faults.url("cookies", set="a=1"), faults.url("cookies")]
    _, second = raddle.fetch(urls, cookies=True, concurrency=1)
    assert second.json() == "a=1"


def test_cookies_stay_with_their_host_and_path(raddle, faults: Faults):
    urls = [
        faults.url("cookies", set="a=1\npath=1; Path=/elsewhere"),
        faults.url("cookies", host=OTHER),
        faults.url("cookies"),
    ]
    _, other, own = raddle.fetch(urls, cookies=True, concurrency=1)
    assert other.json() is None
    assert own.json() == "a=1"


def test_a_host_sets_no_cookie_for_another(raddle, faults: Faults):
    urls = [faults.url("cookies", set=f"evil=1; Domain={OTHER}"), faults.url("cookies", host=OTHER)]
    _, other = raddle.fetch(urls, cookies=True, concurrency=1)
    assert other.json() is None


def test_a_secure_cookie_is_not_sent_in_the_clear(raddle, faults: Faults):
    # By a proxy, under a name: this machine itself may count as a secure place.
    host = f"{faults.token}.fault.test"
    sets = faults.url("cookies", host=host, scheme="https", set="open=1\nshut=2; Secure")
    urls = [sets, faults.url("cookies", host=host)]
    given = {"proxy": faults.proxy, "verify": faults.file("ca.pem")}
    _, plain = raddle.fetch(urls, cookies=True, concurrency=1, **given)
    assert plain.json() == "open=1"

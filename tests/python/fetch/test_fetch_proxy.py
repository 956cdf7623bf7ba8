"""Proxies: from the environment and by argument, plain and as a tunnel, and when not to use one."""

from __future__ import annotations

import pytest
from faults import Faults, header

NAME = "no-such-host.invalid"


def named(faults: Faults, page: str = "ok", host: str = NAME, scheme: str = "http") -> str:
    return faults.url(page, scheme=scheme).replace("127.0.0.1", host)


def test_a_proxy_takes_plain_requests(raddle, faults: Faults):
    # The name resolves nowhere: only the proxy can have answered.
    [response] = raddle.fetch([named(faults)], proxy=faults.proxy)
    assert response.ok, response.error
    assert faults.requests()[0]["scheme"] == "proxy"


def test_a_proxy_makes_tunnels(raddle, faults: Faults):
    host = f"{faults.token}.fault.test"
    [response] = raddle.fetch(
        [named(faults, host=host, scheme="https")],
        proxy=faults.proxy,
        verify=faults.file("ca.pem"),
    )
    assert response.ok, response.error
    assert [request["scheme"] for request in faults.requests()] == ["tunnel", "https"]


def test_what_goes_through_a_tunnel_is_verified(raddle, faults: Faults):
    host = f"{faults.token}.else.test"
    url = named(faults, host=host, scheme="https")
    [response] = raddle.fetch([url], proxy=faults.proxy, verify=faults.file("ca.pem"), retries=0)
    assert isinstance(response.error, raddle.TLSFailed)


def test_a_proxy_that_refuses_the_tunnel_is_an_error(raddle, faults: Faults):
    host = f"{faults.token}.refused.test"
    [response] = raddle.fetch(
        [named(faults, host=host, scheme="https")], proxy=faults.proxy, retries=0
    )
    assert isinstance(response.error, raddle.FetchError)
    assert "proxy" in str(response.error).lower()


def test_a_proxys_user_and_password_are_for_the_proxy_alone(raddle, faults: Faults):
    proxy = faults.proxy.replace("http://", "http://user:secret@")
    host = f"{faults.token}.fault.test"
    urls = [named(faults), named(faults, host=host, scheme="https")]
    responses = raddle.fetch(urls, proxy=proxy, verify=faults.file("ca.pem"), concurrency=1)
    assert all(response.ok for response in responses)
    plain, tunnel, inside = faults.requests()
    assert header(plain, "proxy-authorization") == "Basic dXNlcjpzZWNyZXQ="
    assert header(tunnel, "proxy-authorization") == "Basic dXNlcjpzZWNyZXQ="
    assert header(inside, "proxy-authorization") is None


def test_secrets_for_the_server_are_not_told_to_the_tunnels_proxy(raddle, faults: Faults):
    host = f"{faults.token}.fault.test"
    raddle.fetch(
        [named(faults, host=host, scheme="https")],
        proxy=faults.proxy,
        verify=faults.file("ca.pem"),
        auth=("user", "secret"),
        headers={"Cookie": "a=1"},
    )
    tunnel, inside = faults.requests()
    assert header(inside, "authorization") and header(inside, "cookie")
    assert not header(tunnel, "authorization") and not header(tunnel, "cookie")


def test_a_proxy_that_is_not_there_is_an_error(raddle, faults: Faults):
    dead = f"http://127.0.0.1:{faults.server.ports['refused']}"
    [response] = raddle.fetch([named(faults)], proxy=dead, retries=0)
    assert isinstance(response.error, raddle.ConnectionFailed)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_environment_names_the_proxy(raddle, faults: Faults, monkeypatch, name):
    monkeypatch.setenv(name, faults.proxy)
    [response] = raddle.fetch([named(faults)])
    assert response.ok, response.error


def test_the_environment_names_the_proxy_for_tunnels(raddle, faults: Faults, monkeypatch):
    monkeypatch.setenv("https_proxy", faults.proxy)
    url = named(faults, host=f"{faults.token}.fault.test", scheme="https")
    [response] = raddle.fetch([url], verify=faults.file("ca.pem"))
    assert response.ok, response.error


@pytest.mark.parametrize("none", ["127.0.0.1", "*", "127.0.0.0/8", "elsewhere.test,127.0.0.1"])
def test_no_proxy_goes_straight(raddle, faults: Faults, monkeypatch, none):
    monkeypatch.setenv("http_proxy", faults.proxy)
    monkeypatch.setenv("no_proxy", none)
    assert raddle.fetch([faults.url("ok")])[0].ok
    assert faults.requests()[0]["scheme"] == "http"


def test_the_argument_stands_above_the_environment(raddle, faults: Faults, monkeypatch):
    dead = f"http://127.0.0.1:{faults.server.ports['refused']}"
    monkeypatch.setenv("http_proxy", dead)
    assert raddle.fetch([named(faults)], proxy=faults.proxy)[0].ok


def test_a_name_in_other_letters_goes_out_as_punycode(raddle, faults: Faults):
    [response] = raddle.fetch([named(faults, host="b\xfccher.invalid")], proxy=faults.proxy)
    assert response.ok, response.error
    assert faults.requests()[0]["host"].startswith("xn--bcher-kva.invalid")


def test_a_name_in_other_letters_that_is_nowhere_is_an_error_of_the_name(raddle):
    [response] = raddle.fetch(["http://b\xfccher.invalid/"], retries=0)
    assert isinstance(response.error, raddle.DNSFailed)


@pytest.mark.parametrize("proxy", ["no proxy", "ftp://127.0.0.1:1", "", 7])
def test_a_bad_proxy_is_refused_at_the_call(raddle, faults: Faults, proxy):
    with pytest.raises((ValueError, TypeError), match="proxy"):
        raddle.fetch([faults.url("ok")], proxy=proxy)

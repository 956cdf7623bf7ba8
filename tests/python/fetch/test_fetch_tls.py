"""TLS and HTTP/2: whom to trust, who the client is, and one connection for many requests."""

from __future__ import annotations

import os
import shutil
import ssl

import pytest
from faults import Faults
from programs import run

UNTRUSTED = {
    "another name": "wrong-name",
    "a certificate that has expired": "expired",
    "a certificate of the future": "not-yet",
    "an authority that nobody knows": "stranger",
}


@pytest.mark.parametrize("what", UNTRUSTED)
def test_a_bad_certificate_is_refused(raddle, faults: Faults, what):
    url = faults.url("ok", scheme=UNTRUSTED[what])
    [response] = raddle.fetch([url], verify=faults.file("ca.pem"))
    assert isinstance(response.error, raddle.TLSFailed)
    assert "certificate" in str(response.error)
    assert response.error.attempts == 1, "another try would not mend it"
    assert faults.requests() == []


@pytest.mark.parametrize("what, word", [("wrong-name", "name"), ("expired", "expired")])
def test_the_message_says_what_is_wrong_with_it(raddle, faults: Faults, what, word):
    url = faults.url("ok", scheme=what)
    [response] = raddle.fetch([url], verify=faults.file("ca.pem"))
    assert word in str(response.error).lower()


def test_verification_is_on_by_default(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("ok", scheme="https")])
    assert isinstance(response.error, raddle.TLSFailed)


def test_an_own_authority_is_trusted_where_it_is_named(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("ok", scheme="https")], verify=faults.file("ca.pem"))
    assert response.ok, response.error


@pytest.mark.parametrize("scheme", [*UNTRUSTED.values(), "https"])
def test_verification_can_be_switched_off(raddle, faults: Faults, scheme):
    [response] = raddle.fetch([faults.url("ok", scheme=scheme)], verify=False)
    assert response.ok, response.error


def test_an_unverified_connection_is_not_kept_for_who_verifies(raddle, faults: Faults):
    url = faults.url("ok", scheme="stranger")
    assert raddle.get(url, verify=False).ok
    with pytest.raises(raddle.TLSFailed):
        raddle.get(url)
    with pytest.raises(raddle.TLSFailed):
        raddle.get(url, verify=faults.file("ca.pem"))


def test_the_systems_authorities_are_those_of_the_environment(faults: Faults):
    os.environ["SSL_CERT_FILE"] = faults.file("ca.pem")
    try:
        code, output, errors = run(
            "raddle",
            f"""
            say(futures.get({faults.url("ok", scheme="https")!r}).status)
            """,
        )
    finally:
        del os.environ["SSL_CERT_FILE"]
    assert (code, output, errors) == (0, ["200"], [])


def test_a_client_shows_its_certificate(raddle, faults: Faults):
    url, mine = faults.url("ok", scheme="client-certificate"), faults.file("ca.pem")
    pair = (faults.file("client.pem"), faults.file("client.key"))
    with_it, without = raddle.get(url, verify=mine, cert=pair), raddle.fetch([url], verify=mine)[0]
    assert with_it.ok
    assert without.error is not None and not isinstance(without.error, TimeoutError)


def test_one_file_may_hold_certificate_and_key(raddle, faults: Faults, tmp_path):
    both = tmp_path / "both.pem"
    with both.open("wb") as joined:
        for name in ("client.pem", "client.key"):
            with open(faults.file(name), "rb") as part:
                shutil.copyfileobj(part, joined)
    url = faults.url("ok", scheme="client-certificate")
    assert raddle.get(url, verify=faults.file("ca.pem"), cert=str(both)).ok
    assert raddle.get(url, verify=faults.file("ca.pem"), cert=both).ok


def test_a_file_that_is_no_authority_is_named(raddle, faults: Faults, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate here")
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises((OSError, ValueError), match=path.name):
            raddle.fetch([faults.url("ok", scheme="https")], verify=str(path))


def test_a_server_that_speaks_no_tls_is_an_error_of_tls(raddle, faults: Faults):
    url = faults.url("ok").replace("http://", "https://")
    [response] = raddle.fetch([url], retries=0)
    assert isinstance(response.error, raddle.TLSFailed), repr(response.error)


def test_tls_where_plain_http_is_asked_for_is_an_error(raddle, faults: Faults):
    url = faults.url("ok", scheme="https").replace("https://", "http://")
    [response] = raddle.fetch([url], retries=0)
    assert isinstance(response.error, raddle.FetchError)


def test_a_name_is_checked_for_a_host_that_is_a_name(raddle, faults: Faults):
    url = faults.url("ok", host="localhost", scheme="https")
    assert raddle.get(url, verify=faults.file("ca.pem")).ok


# --- HTTP/2 --------------------------------------------------------------------------------------


def test_http_2_is_spoken_where_the_server_offers_it(raddle, faults: Faults):
    urls = [faults.url("ok", scheme="h2", size=300_000), faults.url("ok", scheme="https")]
    two, one = raddle.fetch(urls, verify=faults.file("ca.pem"))
    assert two.ok and one.ok
    assert len(two.content) == 300_000
    assert [request["version"] for request in sorted_by_scheme(faults)] == ["HTTP/2", "HTTP/1.1"]


def sorted_by_scheme(faults: Faults) -> list[dict[str, object]]:
    return sorted(faults.requests(), key=lambda request: str(request["scheme"]))


def test_http_2_can_be_declined(raddle, faults: Faults):
    raddle.fetch([faults.url("ok", scheme="h2")], verify=faults.file("ca.pem"), http2=False)
    assert faults.requests()[0]["version"] == "HTTP/1.1"


def test_many_requests_of_http_2_share_a_connection(raddle, faults: Faults):
    urls = [faults.url("ok", scheme="h2", size=n) for n in range(300)]
    responses = raddle.fetch(urls, verify=faults.file("ca.pem"))
    assert [len(response.content) for response in responses] == list(range(300))
    connections = {request["connection"] for request in faults.requests()}
    assert len(connections) < 64


def test_requests_of_http_2_send_bodies_and_headers(raddle, faults: Faults):
    body = bytes(range(256)) * 1000
    request = raddle.Request(
        faults.url("echo", scheme="h2"), method="POST", body=body, headers={"X-Note": "yes"}
    )
    [response] = raddle.fetch([request], verify=faults.file("ca.pem"))
    received = faults.requests()[0]
    assert response.ok and received["body"].encode("latin-1") == body
    assert dict(received["headers"])["x-note"] == "yes"


@pytest.mark.parametrize("page", ["reset-stream", "silent"])
def test_a_stream_that_fails_spares_the_others(raddle, faults: Faults, page):
    urls = [faults.url("ok", scheme="h2"), faults.url(page, scheme="h2")] * 5
    responses = raddle.fetch(urls, verify=faults.file("ca.pem"), retries=0, timeout=1.5)
    assert all(response.ok for response in responses[::2])
    kind = raddle.FetchTimeout if page == "silent" else raddle.FetchError
    assert all(isinstance(response.error, kind) for response in responses[1::2])


def test_a_connection_that_is_going_away_loses_nothing(raddle, faults: Faults):
    urls = [faults.url("goaway", scheme="h2")] * 30
    responses = raddle.fetch(urls, verify=faults.file("ca.pem"), concurrency=4, retries=5)
    assert [response.content for response in responses] == [b"last"] * 30


def test_the_fault_servers_certificates_are_what_they_are_taken_for(faults: Faults):
    context = ssl.create_default_context(cafile=faults.file("ca.pem"))
    assert context.cert_store_stats()["x509_ca"] == 1

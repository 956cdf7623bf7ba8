"""Servers that break the protocol, the connection or a promise: each ends with the right error."""

from __future__ import annotations

import pytest
from faults import Faults

# An answer that cannot be used, by page: with these errors, in these words.
BROKEN = {
    "a reset before the answer": ("reset", {"where": "before"}, "ConnectionFailed"),
    "a reset in the headers": ("reset", {"where": "headers"}, "ConnectionFailed"),
    "a reset in the body": ("reset", {"where": "body"}, "ConnectionFailed"),
    "closed without an answer": ("head", {"how": "nothing"}, "ConnectionFailed"),
    "a body shorter than announced": ("short", {}, "ConnectionFailed"),
    "chunks that end early": ("chunks", {"how": "cut"}, "ConnectionFailed"),
    "chunks without an end": ("chunks", {"how": "endless"}, "ConnectionFailed"),
    "a chunk whose size is no number": ("chunks", {"how": "size"}, "InvalidResponse"),
    "a chunk of negative size": ("chunks", {"how": "negative"}, "InvalidResponse"),
    "a chunk of a size beyond all memory": ("chunks", {"how": "huge"}, "InvalidResponse"),
    "chunks without a break between them": ("chunks", {"how": "joined"}, "InvalidResponse"),
    "a length that is no number": ("lengths", {"values": "ten"}, "InvalidResponse"),
    "a negative length": ("lengths", {"values": "-1"}, "InvalidResponse"),
    "two lengths that differ": ("lengths", {"values": "10,20"}, "InvalidResponse"),
    "a header without a colon": ("head", {"how": "colon"}, "InvalidResponse"),
    "a header with a bad name": ("head", {"how": "name"}, "InvalidResponse"),
    "a zero byte in a header": ("head", {"how": "nul"}, "InvalidResponse"),
    "a status that is no number": ("head", {"how": "status-text"}, "InvalidResponse"),
    "no headers at all": ("head", {"how": "none"}, "InvalidResponse"),
    "another protocol": ("head", {"how": "ssh"}, "InvalidResponse"),
    "headers without an end": ("endless-headers", {}, "InvalidResponse"),
    "gzip that ends early": ("encoded", {"how": "cut"}, "InvalidResponse"),
    "brotli that ends early": ("encoded", {"how": "cut-br"}, "InvalidResponse"),
    "zstd that ends early": ("encoded", {"how": "cut-zstd"}, "InvalidResponse"),
    "rubbish in place of gzip": ("encoded", {"how": "rubbish"}, "InvalidResponse"),
    "rubbish in place of deflate": ("encoded", {"how": "rubbish-deflate"}, "InvalidResponse"),
}

# Odd, and yet what every client takes.
TAKEN = {
    "an empty header": ("head", {"how": "empty"}, b"ok"),
    "no reason": ("head", {"how": "reason"}, b"ok"),
    "a reason in other bytes": ("head", {"how": "reason-bytes"}, b"ok"),
    "HTTP/1.0 without a length": ("head", {"how": "old"}, b"hello world"),
    "a body until the end of the connection": ("head", {"how": "until-close"}, b"hello world"),
    "100 Continue before the answer": ("head", {"how": "continue"}, b"ok"),
    "103 Early Hints before the answer": ("head", {"how": "hints"}, b"ok"),
    "a header of 60 KB": ("head", {"how": "large"}, b"ok"),
    "ninety headers": ("head", {"how": "many"}, b"ok"),
    "good chunks": ("chunks", {"how": "good"}, b"hello world"),
    "the same length twice": ("lengths", {"values": "20,20"}, b"0000000\n0000001\n0000"),
    "chunks and a length that says otherwise": ("both", {}, b"hello world"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_answer_is_that_responses_error_and_costs_no_other(raddle, faults: Faults, what):
    page, query, kind = BROKEN[what]
    bad = faults.url(page, **query)
    before, broken, after = raddle.fetch([faults.url("ok"), bad, faults.url("ok")], retries=0)
    assert before.ok and after.ok
    error = broken.error
    assert type(error).__name__ == kind, repr(error)
    assert isinstance(error, raddle.FetchError) and isinstance(error, raddle.RaddleError)
    assert error.url == bad
    # A connection that was kept may have been old: what fails on it is tried on a new one.
    assert error.attempts in (1, 2)
    assert bad in str(error), "the message says where"
    assert not broken.ok


@pytest.mark.parametrize("what", BROKEN)
def test_get_raises_it(raddle, faults: Faults, what):
    page, query, kind = BROKEN[what]
    with pytest.raises(getattr(raddle, kind)):
        raddle.get(faults.url(page, **query), retries=0)


@pytest.mark.parametrize("what", TAKEN)
def test_an_odd_answer_is_taken(raddle, faults: Faults, what):
    page, query, body = TAKEN[what]
    [response] = raddle.fetch([faults.url(page, **query)], retries=0)
    assert response.error is None
    assert (response.status, response.content) == (200, body)


def test_a_folded_header_ends_one_way_or_the_other(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("head", how="folded")], retries=0)
    if response.error is None:
        assert response.headers["x-folded"].split() == ["one", "two"]
    else:
        assert isinstance(response.error, raddle.InvalidResponse)


def test_what_follows_a_body_does_not_poison_the_next_answer(raddle, faults: Faults):
    urls = [faults.url("long"), faults.url("ok")] * 20
    for response in raddle.fetch(urls, concurrency=1):
        assert response.content == (b"0000000\n00" if "long" in response.url else b"0000000\n00000")


def test_a_connection_closed_between_requests_loses_nothing(raddle, faults: Faults):
    responses = raddle.fetch([faults.url("closed-after")] * 200, concurrency=4)
    assert [response.content for response in responses] == [b"last"] * 200
    assert len(faults.requests()) == 200


def test_a_refused_connection_says_so(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("ok", scheme="refused")], retries=0)
    assert isinstance(response.error, raddle.ConnectionFailed)
    assert isinstance(response.error, ConnectionError)
    assert "refused" in str(response.error).lower()


def test_a_name_without_an_address_says_so(raddle):
    [response] = raddle.fetch(["http://no-such-host.invalid/"], retries=0)
    assert isinstance(response.error, raddle.DNSFailed)
    assert "no-such-host.invalid" in str(response.error)


def test_a_headers_bytes_are_read_as_latin_1(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("head", how="bytes")])
    assert response.headers["X-Raw"] == "caf\xe9 \xff\xfe"


def test_an_odd_status_is_told_as_it_is(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("head", how="status")])
    assert (response.status, response.ok, response.error) == (999, False, None)


def test_one_failure_of_each_kind_in_one_batch(raddle, faults: Faults):
    pages = [(page, query) for page, query, _ in BROKEN.values()]
    kinds = [kind for _, _, kind in BROKEN.values()]
    urls = [faults.url(page, **query) for page, query in pages]
    mixed = [url for bad in urls for url in (bad, faults.url("ok"))]
    responses = raddle.fetch(mixed, retries=0)
    assert [type(r.error).__name__ for r in responses[::2]] == kinds
    assert all(r.ok and r.content for r in responses[1::2])
    assert [r.request.url for r in responses] == mixed


def test_on_error_raise_stops_at_the_first(raddle, faults: Faults):
    urls = [faults.url("hold"), faults.url("short"), faults.url("hold")]
    with pytest.raises(raddle.ConnectionFailed) as caught:
        raddle.fetch(urls, retries=0, on_error="raise")
    assert caught.value.url == urls[1]
    faults.wait_left(2)  # what was under way is given up


@pytest.mark.parametrize("count, is_read", [(90, True), (110, False)])
def test_the_limit_of_headers_is_named(raddle, faults: Faults, count, is_read):
    url = faults.url("given", header="\n".join(f"X-{number}: a" for number in range(count)))
    [response] = raddle.fetch([url], retries=0)
    assert response.ok == is_read
    assert is_read or "100 headers" in str(response.error)

"""The same requests through requests and httpx: the same status, headers, body, and bytes sent."""

from __future__ import annotations

import warnings

import httpx
import pytest
import requests
from faults import Faults

PAGES = {
    "a page": ("ok", {"size": 5000}),
    "an empty page": ("ok", {"size": 0}),
    "a large page": ("large", {"size": 3_000_000}),
    **{f"status {code}": ("status", {"code": code}) for code in (204, 304, 404, 418, 500, 503)},
    "repeated headers": ("given", {"header": "X-A: 1\nX-A: 2\nVary: a\nVary: b", "body": "x"}),
    "odd headers": ("given", {"header": "X-Empty: \nX-Spaces:   a  b\nX-Marks: =;,\"'"}),
    "headers in other bytes": ("head", {"how": "bytes"}),
    "an empty header": ("head", {"how": "empty"}),
    "no reason": ("head", {"how": "reason"}),
    "an odd status": ("head", {"how": "status"}),
    "HTTP/1.0": ("head", {"how": "old"}),
    "until the end of the connection": ("head", {"how": "until-close"}),
    "100 Continue": ("head", {"how": "continue"}),
    "a large header": ("head", {"how": "large"}),
    "many headers": ("head", {"how": "many"}),
    "chunks": ("chunks", {"how": "good"}),
    "too much": ("long", {}),
    "redirects": ("redirects", {"n": 5}),
    "a redirect to a relative address": ("redirect", {"to": "../x/../ok"}),
    "a redirect to nowhere": ("redirect", {}),
    "a redirect with a question only": ("redirect", {"to": "ok?size=7"}),
    **{
        f"encoding {how}": ("encoded", {"how": how})
        for how in "gzip upper deflate raw-deflate br identity twice empty unknown".split()
    },
    "latin-1": (
        "written",
        {"text": "caf\xe9", "as": "latin-1", "type": "text/plain; charset=latin-1"},
    ),
    "utf-8": ("written", {"text": "caf\xe9 \u20ac", "type": "text/plain; charset=utf-8"}),
}
FAILURES = {
    **{
        f"chunks: {how}": ("chunks", {"how": how}) for how in "size huge joined cut endless".split()
    },
    "short": ("short", {}),
    "reset": ("reset", {"where": "body"}),
    "closed": ("head", {"how": "nothing"}),
    "no headers": ("head", {"how": "none"}),
    "another protocol": ("head", {"how": "ssh"}),
    "endless redirects": ("endless-redirects", {}),
    "rubbish for gzip": ("encoded", {"how": "rubbish"}),
    "never an answer": ("silent", {}),
}
LIMIT = 0.8  # seconds, for the page that never answers

# What the reference cannot, so that there is nothing to compare with.
CANNOT = {
    "httpx": {
        "headers in other bytes": "decodes the bytes by a guess",
        "an odd status": "refuses it",
        "a redirect to nowhere": "is not redirected, and has another idea of ok",
        "too much": "refuses what follows the body",
        "a large header": "refuses it",
        "repeated headers": "",
    },
    "requests": {},
}


def by_requests(url: str, method: str = "GET", **given):
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, url, timeout=LIMIT, **given)
        raw = answer.raw.headers
        pairs = [(n.lower(), v) for n in dict.fromkeys(raw) for v in raw.getlist(n)]
        return answer.status_code, sorted(pairs), answer.content, answer.url


def by_httpx(url: str, method: str = "GET", **given):
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=LIMIT) as client:
        if "data" in given:
            given["content"] = given.pop("data")
        answer = client.request(method, url, **given)
        pairs = [(n.lower(), v) for n, v in answer.headers.multi_items()]
        return answer.status_code, sorted(pairs), answer.content, str(answer.url)


def by_raddle(raddle, url: str, method: str = "GET", **given):
    if "data" in given:
        given["body"] = given.pop("data")
    [response] = raddle.fetch(
        [raddle.Request(url, method=method, **given)], retries=0, timeout=LIMIT
    )
    if response.error is not None:
        raise response.error
    pairs = [(name.lower(), v) for name in response.headers for v in response.headers.get_all(name)]
    return response.status, sorted(pairs), response.content, response.url


REFERENCES = {"requests": by_requests, "httpx": by_httpx}


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("what", PAGES)
def test_an_answer_is_the_same(raddle, faults: Faults, reference, what):
    page, query = PAGES[what]
    url = faults.url(page, **query)
    ours = by_raddle(raddle, url)
    if what in CANNOT[reference]:
        assert ours[0], "there is an answer, and this reference has none to compare with"
        return
    assert ours == REFERENCES[reference](url)


@pytest.mark.parametrize("how", ["zstd", "frames"])
def test_zstd_is_decoded_as_httpx_does(raddle, faults: Faults, how):
    url = faults.url("encoded", how=how)
    assert by_raddle(raddle, url) == by_httpx(url)


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("what", FAILURES)
def test_what_fails_there_fails_here(raddle, faults: Faults, reference, what):
    page, query = FAILURES[what]
    with pytest.raises((requests.RequestException, httpx.HTTPError)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            REFERENCES[reference](faults.url(page, **query))
    with pytest.raises(raddle.FetchError):
        by_raddle(raddle, faults.url(page, **query))


SENT = {
    "parameters": {"params": {"q": "caf\xe9 & more", "n": "7"}},
    "repeated parameters": {"params": [("a", "1"), ("a", "2")]},
    "JSON": {"method": "POST", "json": {"name": "caf\xe9", "list": [1, None, 2.5]}},
    "bytes": {"method": "PUT", "data": b"\0\1\2\xff"},
    "headers": {"headers": {"X-Note": "a b", "Accept": "text/plain"}},
    "user and password": {"auth": ("user", "p\xe4ss:word")},
    "HEAD": {"method": "HEAD"},
    "DELETE": {"method": "DELETE"},
    "OPTIONS": {"method": "OPTIONS"},
    "PATCH": {"method": "PATCH", "data": b"x"},
    "an empty POST": {"method": "POST"},
}
#: Headers in which clients differ by right.
OWN = {"user-agent", "accept-encoding", "accept", "connection", "host"}


def comparable(request: dict) -> dict:
    """What of a received request must be the same whoever sent it."""
    headers = sorted((n.lower(), v) for n, v in request["headers"] if n.lower() not in OWN)
    headers = [(n, v.partition(";")[0] if n == "content-type" else v) for n, v in headers]
    if request["method"] in ("DELETE", "OPTIONS"):  # no content is expected of these
        headers = [pair for pair in headers if pair != ("content-length", "0")]
    kept = {name: request[name] for name in ("method", "host", "body")}
    return {**kept, "headers": headers, "target": request["target"].replace("%20", "+")}


@pytest.mark.parametrize("what", SENT)
def test_a_request_is_the_same(raddle, faults: Faults, what):
    given = dict(SENT[what])
    method = given.pop("method", "GET")
    by_raddle(raddle, faults.url("ok"), method, **dict(given))
    by_requests(faults.url("ok"), method, **dict(given))
    ours, theirs = map(comparable, faults.requests())
    if "json" in given:  # spaces and escapes differ
        import json

        assert json.loads(ours.pop("body").encode("latin-1")) == json.loads(theirs.pop("body"))
        ours["headers"] = [pair for pair in ours["headers"] if pair[0] != "content-length"]
        theirs["headers"] = [pair for pair in theirs["headers"] if pair[0] != "content-length"]
    if what == "user and password":  # requests sends latin-1, the standard of today is UTF-8
        ours["headers"], theirs["headers"] = [], []
    assert ours == theirs


@pytest.mark.parametrize("tail", [
    "?q=caf\xe9", "?q=a b", "?q=%20+", "/a b", "/caf\xe9", "/%7ea", "/a//b", "/a/./b/../c", "?",
    "?a=[1]", "?a=1;b=2", "/;p=1", "/a%2Fb", "?q=\U0001f600", "?a='x'",
])  # fmt: skip
def test_an_address_reaches_the_same_page(raddle, faults: Faults, tail):
    url = faults.url("ok") + tail
    by_raddle(raddle, url)
    by_requests(url)
    ours, theirs = (
        request["target"].replace("%27", "'").replace("%7e", "~").rstrip("?")
        for request in faults.requests()
    )
    assert ours.replace("%5B", "[").replace("%5D", "]") == theirs.replace("%5B", "[").replace(
        "%5D", "]"
    )

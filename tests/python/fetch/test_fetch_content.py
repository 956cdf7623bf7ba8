"""What a body becomes: content encodings, sizes that are bounded, charsets, JSON."""

from __future__ import annotations

import json

import pytest
from faults import Faults
from programs import run

BODY = b"".join(b"%07d\n" % number for number in range(625))
MIB = 1 << 20


@pytest.mark.parametrize(
    "how",
    "gzip upper x-gzip members deflate raw-deflate br zstd frames identity twice".split(),
)
def test_an_encoded_body_is_decoded(raddle, faults: Faults, how):
    [response] = raddle.fetch([faults.url("encoded", how=how)], retries=0)
    assert response.error is None, response.error
    assert response.content == BODY


def test_every_decoding_is_offered(raddle, faults: Faults):
    raddle.fetch([faults.url("ok")])
    offered = dict(faults.requests()[0]["headers"])
    lower = {name.lower(): value for name, value in offered.items()}
    assert {"gzip", "br", "zstd", "deflate"} <= set(lower["accept-encoding"].split(", "))


def test_an_own_accept_encoding_takes_the_place_of_ours(raddle, faults: Faults):
    raddle.fetch([faults.url("ok")], headers={"Accept-Encoding": "identity"})
    values = [v for n, v in faults.requests()[0]["headers"] if n.lower() == "accept-encoding"]
    assert values == ["identity"]


def test_an_unknown_encoding_is_left_as_it_is(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("encoded", how="unknown")])
    assert response.content == BODY
    assert response.headers["content-encoding"] == "rot13"


def test_nothing_is_a_body_too(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("encoded", how="empty")])
    assert (response.error, response.content, response.text) == (None, b"", "")


@pytest.mark.parametrize("code", [204, 304])
def test_an_answer_without_a_body_has_none(raddle, faults: Faults, code):
    first, second = raddle.fetch([faults.url("status", code=code)] * 2, concurrency=1)
    assert (first.status, first.content) == (second.status, second.content) == (code, b"")


def test_the_answer_to_head_has_no_body(raddle, faults: Faults):
    request = raddle.Request(faults.url("encoded", how="gzip"), method="HEAD")
    [response] = raddle.fetch([request])
    assert (response.error, response.status, response.content) == (None, 200, b"")
    assert int(response.headers["content-length"]) > 0


# --- Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page, query", [
    ("ok", {"size": 1001}),
    ("endless-body", {}),
    ("endless-body", {"length": 10**15}),
    ("encoded", {"how": "gzip"}),
])  # fmt: skip
def test_a_body_larger_than_allowed_is_an_error(raddle, faults: Faults, page, query):
    [response] = raddle.fetch([faults.url(page, **query)], max_bytes=1000, retries=0)
    assert isinstance(response.error, raddle.TooLarge)
    assert "1,000" in str(response.error) or "1000" in str(response.error)


def test_a_body_of_just_the_size_allowed_is_none(raddle, faults: Faults):
    fine, large = raddle.fetch(
        [faults.url("ok", size=1000), faults.url("ok", size=1001)], max_bytes=1000
    )
    assert len(fine.content) == 1000
    assert isinstance(large.error, raddle.TooLarge)


def test_too_large_is_not_tried_again(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("ok", size=1001)], max_bytes=1000)
    assert response.error.attempts == 1
    assert len(faults.requests()) == 1


@pytest.mark.parametrize("how", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_ends_at_its_size_in_little_memory(faults: Faults, how):
    code, output, errors = run(
        "raddle",
        f"""
        def peak():
            with open("/proc/self/status") as status:
                [line] = [line for line in status if line.startswith("VmHWM")]
            return int(line.split()[1]) * 1024
        futures.fetch([{faults.url("ok")!r}])
        before = peak()
        [response] = futures.fetch([{faults.url("bomb", how=how)!r}], max_bytes={MIB}, retries=0)
        say(type(response.error).__name__, peak() - before)
        """,
    )
    assert (code, errors) == (0, [])
    kind, grown = output[0].split()
    assert kind == "TooLarge"
    assert int(grown) < 40 * MIB, "64 MB and more would come out of it"


def test_a_bomb_without_a_limit_is_what_it_is(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("bomb", how="zstd", pieces=20)], timeout=40)
    assert response.content == bytes(20 * MIB)


# --- Text ----------------------------------------------------------------------------------------

TEXTS = {
    "declared latin-1": ("Gar\xe7on", "latin-1", "text/html; charset=ISO-8859-1"),
    "declared with quotes": ("Gar\xe7on", "latin-1", 'text/html; charset="latin1"'),
    "declared in capitals": ("Gar\xe7on", "utf-8", "text/html; CHARSET=UTF-8"),
    "declared, Japanese": ("日本語", "shift_jis", "text/plain; charset=Shift_JIS"),
    "declared, Russian": ("Привет", "koi8-r", "text/plain; charset=koi8-r"),
    "utf-8 with a mark": ("\ufeffGar\xe7on", "utf-8", "text/plain"),
    "utf-16 with a mark": ("Gar\xe7on", "utf-16", "text/plain"),
    "nothing declared, utf-8": ("Gar\xe7on and \u2026 more", "utf-8", "text/html"),
    "no type at all": ("Gar\xe7on \u20ac", "utf-8", None),
    "JSON": ('{"a": "\xe9"}', "utf-8", "application/json"),
    "told by meta": ('<meta charset="koi8-r"><p>Привет, как дела</p>', "koi8-r", "text/html"),
    "told by an old meta": (
        '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">Привет',
        "windows-1251",
        "text/html",
    ),
    "an unknown charset": ("Gar\xe7on", "utf-8", "text/html; charset=utf-99"),
    "detected": (
        "<p>" + "Привет, это обычный русский текст без объявления. " * 10 + "</p>",
        "windows-1251",
        "text/html",
    ),
}


@pytest.mark.parametrize("what", TEXTS)
def test_text_has_its_charset(raddle, faults: Faults, what):
    text, charset, declared = TEXTS[what]
    query = {"text": text, "as": charset, **({"type": declared} if declared else {})}
    [response] = raddle.fetch([faults.url("written", **query)])
    assert response.text == text.removeprefix("\ufeff")


def test_bytes_that_no_charset_knows_are_marked_not_raised(raddle, faults: Faults):
    url = faults.url("given", body=b"a\xff\xfeb", header="Content-Type: text/plain; charset=utf-8")
    [response] = raddle.fetch([url])
    assert response.text.startswith("a\N{REPLACEMENT CHARACTER}")
    assert response.text.endswith("b")
    assert response.content == b"a\xff\xfeb"


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_each_of_its_charsets(raddle, faults: Faults, charset):
    value = {"name": "caf\xe9 \u20ac", "numbers": [1, 2.5, None]}
    text = json.dumps(value, ensure_ascii=False)
    url = faults.url("written", text=text, type="application/json", **{"as": charset})
    [response] = raddle.fetch([url])
    assert response.json() == value


def test_what_is_no_json_raises_a_value_error(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("status", code=404)])
    with pytest.raises(ValueError):
        response.json()


def test_content_is_made_once(raddle, faults: Faults):
    [response] = raddle.fetch([faults.url("ok")])
    assert response.content is response.content
    assert isinstance(response.content, bytes)


@pytest.mark.parametrize("is_asked_before", [False, True])
def test_other_threads_run_while_a_text_is_decoded(faults: Faults, is_asked_before):
    url = faults.url("given", body=b"\xe9", header="Content-Type: text/html")
    code, output, errors = run(
        "raddle",
        f"""
        restore, (item, (head, (_, *rest), error)) = futures.get({url!r}).__reduce__()
        page = restore(item, (head, ("Gar\xe7on. ".encode("latin-1") * 2_000_000, *rest), error))
        if {is_asked_before}:
            page.content  # the body is a bytes object from here on
        sys.setswitchinterval(1000)  # a thread that does not let go of the interpreter keeps it
        def ran_meanwhile():
            begun, ended = threading.Event(), threading.Event()
            def read():
                begun.set()
                assert page.text.endswith("Gar\xe7on. ")
                ended.set()
            thread = threading.Thread(target=read)
            thread.start()
            begun.wait()
            found = not ended.is_set()
            thread.join()
            return found
        # On a busy machine this thread may get its turn too late.
        say(page.charset, any(ran_meanwhile() for _ in range(50)))
        """,
    )
    assert (code, output, errors) == (0, ["windows-1252 True"], [])

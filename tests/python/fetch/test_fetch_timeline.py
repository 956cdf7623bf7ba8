"""A recording of pages: each with its phases, in a lane of its host."""

import raddle
from raddle._trace_events import trace


def test_pages_are_recorded_with_their_phases(faults):
    url = faults.url("ok", size=1000)
    with raddle.timeline() as recording:
        pages = raddle.fetch([url, url, "http://127.0.0.1:1/"], retries=0)
    record = recording._record()
    assert [page.error is None for page in pages] == [True, True, False]
    good = [fetch for fetch in record["fetches"] if fetch["error"] < 0]
    (bad,) = (fetch for fetch in record["fetches"] if fetch["error"] >= 0)
    assert len(good) == 2
    for fetch in record["fetches"]:
        times = [time for _, start, end in fetch["phases"] for time in (start, end)]
        assert times == sorted(times) and times[-1] <= record["duration"]
        assert record["lanes"][fetch["lane"]]["kind"] == "fetch"
    for fetch in good:
        assert fetch["status"] == 200
        assert [phase for phase, _, _ in fetch["phases"]][-2:] == ["wait", "body"]
        assert record["names"][fetch["url"]].endswith("/ok?size=1000")
    assert bad["status"] is None and [phase for phase, _, _ in bad["phases"]] == ["connect"]
    assert record["lanes"][bad["lane"]]["name"] == "fetch 127.0.0.1:1"
    assert recording.summary().startswith("3 pages fetched in ")
    spans = [event for event in trace(record)["traceEvents"] if event["ph"] in "be"]
    assert len(spans) == 2 * sum(1 + len(fetch["phases"]) for fetch in record["fetches"])


def test_what_only_the_server_should_know_is_not_recorded(faults):
    url = faults.url("ok", size=1000).replace("http://", "http://name:secret@")
    with raddle.timeline() as recording:
        raddle.fetch([url])
    assert "secret" not in str(recording._record())

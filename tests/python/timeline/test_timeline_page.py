"""The page of a recording: what stands in it, and that a real browser shows it and follows."""

import base64
import json
import re
from html.parser import HTMLParser

import browser as browsers
import pytest
import recordings

from raddle import _timeline_page as pages
from raddle import _timeline_tables as tables

STRANGE = "</script><script>alert(1)</script><!-- & \"'\u2028 \ud800"
#: Makes the timeline's own doing ready at once, instead of at the next frame.
NOW = "raddleTimelines[0].drawNow()"


# --- what stands in the document -------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a document with their attributes, and the cells of its tables."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self._cell = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data


def test_the_document_loads_nothing_and_says_so():
    text = pages.page(recordings.example(), "Example")
    elements = Elements(text).elements
    assert len(elements) > 50
    loading = {"src", "href", "srcset", "action", "data", "style"}
    assert not [each for each in elements if loading & set(each[1])]
    assert not re.search(r"url\(|@import|https?:", pages.style() + pages.script())
    policy = next(a["content"] for tag, a in elements if a.get("http-equiv"))
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_the_recording_stands_in_the_document_as_it_is():
    record = recordings.example()
    text = pages.page(record, "Example")
    data = re.search(r'<script type="application/json">(.*?)</script>', text, re.S)[1]
    assert json.loads(data) == json.loads(json.dumps(record))


def test_what_was_recorded_never_becomes_markup():
    record = recordings.example()
    plain = pages.page(record, "Example")
    record["names"] = [f"{name}{STRANGE}" for name in record["names"]]
    record["summary"] = record["machine"]["program"] = STRANGE
    for lane in record["lanes"]:
        lane["name"] = STRANGE
    for process in record["processes"]:
        process["name"] = STRANGE
    text = pages.page(record, STRANGE)
    tags = [tag for tag, _ in Elements(text).elements]
    assert tags == [tag for tag, _ in Elements(plain).elements]
    assert tags.count("script") == 2
    text.encode("utf-8")


def test_a_recording_without_tasks_has_a_page():
    text = pages.page(recordings.empty(0.0), "Nothing")
    assert "<table" not in text and "<canvas" in text


def test_tables_tell_what_was_recorded():
    record = recordings.example()
    rows = Elements(tables.tables(record, pages.plain, 3)).rows
    assert [
        "parse",
        "failed",
        "1",
        "ValueError: <b>no number</b>",
        "ThreadPoolExecutor-0_1",
        "1.20 s",
    ] in rows
    assert ["load", "retried", "1", "OSError: not yet", "ThreadPoolExecutor-0_0", "1.10 s"] in rows
    assert ["simulate", "worker 1", "1.20 s", "200 ms", "150 ms", "finished"] in rows
    killed = next(row for row in rows if row[0] == "worker 0")
    assert killed[2:] == ["2", "65%", "0%", "0%", "SIGKILL at 1.50 s"]
    assert ["balance", "ThreadPoolExecutor-0_1", "1", "100 ms", "100 ms"] in rows
    page = next(row for row in rows if row[0] == "http://a.example/")
    assert page[1:] == [
        "200",
        "5,000",
        "800 ms",
        "lookup 100 ms, connect 100 ms, wait 500 ms, body 100 ms",
    ]


def test_the_figures_do_not_take_waiting_for_the_gil_for_work():
    text = tables.figures(recordings.example(), pages.plain)
    shown = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    # All runs took 5.3 s; of 2.0 s, 0.8 were waited for the GIL.
    assert shown["At work at a time"] == "2.25"
    assert shown["Waited for the GIL"] == "15%"
    assert (shown["Tasks"], shown["Retried"]) == ("10", "1")


def test_failures_beyond_the_table_are_counted():
    record = recordings.empty()
    lane = recordings.lane(record, "worker")
    for _ in range(tables.MOST + 7):
        recordings.task(record, lane, "fail", 0.0, 0.1, 0.2, 1, 1, "ValueError")
    text = tables.troubles(record, pages.plain)
    assert text.count("<tr>") == 1 + tables.MOST
    assert "7 more are in the picture" in text


def test_a_frame_for_notebooks_holds_the_whole_page():
    record = recordings.example()
    attributes = Elements(pages.embedded(record, "Example")).elements[0][1]
    assert attributes["srcdoc"] == pages.page(record, "Example")
    assert attributes["sandbox"] == "allow-scripts"


# --- in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = browsers.find()
    if path is None:
        pytest.skip("no browser on this machine: Debian has it as the package chromium")
    browser = browsers.Browser(path, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return written(tmp_path_factory.mktemp("page") / "example.html", recordings.example())


def written(path, *records):
    if len(records) == 1:
        path.write_text(pages.page(records[0], "Example"), "utf-8")
    else:
        sections = [pages.fragment(each, f"Part {n}") for n, each in enumerate(records)]
        path.write_text(pages.document("Report", "of parts", "\n".join(sections)), "utf-8")
    return path


def place_of(browser, task):
    """Return the middle of a task's bar in the window, which is scrolled there."""
    return browser.run(f"""(() => {{
        const timeline = raddleTimelines[0], item = timeline.recording.items[{task}];
        timeline.canvas.scrollIntoView({{block: "center", behavior: "instant"}});
        timeline.drawNow();
        const band = timeline.drawing.bands.find((each) => each.lane?.index === item.lane);
        const box = timeline.canvas.getBoundingClientRect();
        return [box.left + timeline.drawing.x((item.start + item.end) / 2), box.top + band.top + 5];
    }})()""")


def visible(browser):
    return browser.run("[raddleTimelines[0].from, raddleTimelines[0].to]")


def complaints(browser):
    told = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    return [event for event in browser.events if event["method"] in told]


def requests(browser):
    sent = [e for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    return [event["params"]["request"]["url"] for event in sent]


def test_the_page_loads_without_errors_and_requests_nothing_but_itself(browser, example):
    browser.open(example)
    browser.run(NOW)
    assert complaints(browser) == []
    assert requests(browser) == [example.as_uri()]
    assert browser.run("document.querySelectorAll('b, h1 script').length") == 0
    ready = browser.run(
        "(async () => { try { await fetch('data:,x'); } catch { return 'no'; } })()"
    )
    assert ready == "no", "the policy holds"


def test_the_numbers_of_the_picture_are_the_recorded_ones(browser, example):
    browser.open(example)
    record = recordings.example()
    shown = browser.run(
        "raddleTimelines[0].recording.items.map((i) => i && [i.lane, i.start, i.end, i.state])"
    )
    tasks = record["tasks"]
    for n, item in enumerate(shown):
        if tasks["started"][n] is None:
            assert item is None
            continue
        end = record["duration"] if tasks["ended"][n] is None else tasks["ended"][n]
        assert item == [tasks["lane"][n], tasks["started"][n], end, tasks["state"][n]]
    counts = browser.run(
        "[0.15, 0.3, 1.05, 1.7].map((t) => [raddleTimelines[0].recording.active.at(t), "
        "raddleTimelines[0].recording.queue.at(t)])"
    )
    assert counts == [[2, 3], [4, 4], [4, 3], [1, 1]]


def test_hover_and_click_show_the_details_of_a_bar(browser, example):
    browser.open(example)
    x, y = place_of(browser, 7)
    browser.mouse("mouseMoved", x, y)
    tip = browser.run("document.querySelector('.tip').innerText")
    assert "parse" in tip and "failed" in tip and "200 ms" in tip
    assert "ValueError: <b>no number</b>" in tip
    browser.click(x, y)
    assert browser.run("raddleTimelines[0].chosen.task") == 7
    assert "ValueError" in browser.run("document.querySelector('.details dl').innerText")


def test_the_wheel_zooms_about_the_pointer_and_dragging_moves(browser, example):
    browser.open(example)
    x, y = place_of(browser, 7)
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200, modifiers=2)
    start, end = visible(browser)
    assert 0 < start < 1.1 < end < 2.0
    assert place_of(browser, 7)[0] == pytest.approx(x, abs=2), "what was under the pointer stays"
    browser.mouse("mousePressed", x, y, button="left", clickCount=1)
    browser.mouse("mouseMoved", x - 50, y, button="left", buttons=1)
    browser.mouse("mouseReleased", x - 50, y, button="left", clickCount=1)
    later = visible(browser)
    assert later[0] > start and later[1] - later[0] == pytest.approx(end - start)


def test_the_keyboard_reaches_every_bar_and_zooms(browser, example):
    browser.open(example)
    for _ in range(20):
        browser.press("Tab")
        if browser.run("document.activeElement.tagName") == "CANVAS":
            break
    assert browser.run("document.activeElement.tagName") == "CANVAS"
    assert browser.run("raddleTimelines[0].chosen.task") == 0, "the first is chosen at once"
    browser.press("ArrowRight")
    assert browser.run("raddleTimelines[0].chosen.task") == 5
    browser.press("ArrowDown")
    assert browser.run("raddleTimelines[0].chosen.task") == 7
    assert "parse" in browser.run("document.querySelector('.details').innerText")
    browser.press("+")
    start, end = visible(browser)
    assert end - start == pytest.approx(1.0)
    browser.press("d")
    assert visible(browser)[0] == pytest.approx(start + 0.25)
    browser.press("Enter")
    start, end = visible(browser)
    assert start < 1.0 < 1.2 < end and end - start == pytest.approx(1.0)
    browser.press("0")
    assert visible(browser) == [0, 2]
    browser.press("Escape")
    assert browser.run("raddleTimelines[0].chosen") is None


def test_a_row_of_a_table_shows_its_task_in_the_picture(browser, example):
    browser.open(example)
    browser.run("document.querySelector('button[data-task=\"8\"]').click()")
    assert browser.run("raddleTimelines[0].chosen.task") == 8
    assert browser.run("document.activeElement.tagName") == "CANVAS"
    browser.run("document.querySelector('button[data-do=all]').click()")
    assert visible(browser) == [0, 2]


def test_a_phone_shows_all_in_its_width_and_two_fingers_zoom(browser, example):
    browser.open(example, width=360, height=740)
    assert browser.run("document.documentElement.scrollWidth") == 360
    _, y = place_of(browser, 0)

    def touch(kind, *points):
        fingers = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    touch("touchStart", (150, y))
    touch("touchStart", (150, y), (190, y))
    touch("touchMove", (120, y), (220, y))
    touch("touchMove", (90, y), (250, y))
    touch("touchEnd")
    start, end = visible(browser)
    assert end - start < 1.5
    assert complaints(browser) == []


def corner(browser):
    """Return the colour of the picture's first pixel."""
    canvas = "raddleTimelines[0].canvas.getContext('2d').getImageData(0, 0, 1, 1).data"
    return browser.run(f"[...{canvas}].slice(0, 3)")


def test_both_themes_are_drawn_and_can_be_chosen(browser, example):
    browser.open(example, scheme="dark")
    browser.run(NOW)
    dark = corner(browser)
    assert sum(dark) < 150
    browser.run("document.querySelector('button.theme').click()")
    assert sum(corner(browser)) > 700
    browser.run("document.querySelector('button.theme').click()")
    assert corner(browser) == dark


def test_print_is_drawn_light_whatever_the_theme(browser, example):
    browser.open(example, scheme="dark")
    browser.run("""addEventListener("beforeprint", () => {
        const pen = raddleTimelines[0].canvas.getContext("2d");
        window.printed = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
    })""")
    data = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert data.startswith(b"%PDF") and len(data) > 20_000
    assert browser.run("window.printed") == [255, 255, 255]
    assert sum(corner(browser)) < 150, "and is as before again"


def test_a_hundred_thousand_tasks_are_drawn_by_pixels_and_not_one_by_one(browser, tmp_path):
    browser.open(written(tmp_path / "many.html", recordings.many(100_000)))
    assert complaints(browser) == []
    count = browser.run("""(() => {
        const timeline = raddleTimelines[0], pen = timeline.drawing.context, fill = pen.fillRect;
        let count = 0;
        pen.fillRect = (...box) => { count += 1; fill.apply(pen, box); };
        timeline.drawNow();
        return [count, timeline.drawing.width, timeline.recording.items.length];
    })()""")
    assert count[2] == 100_000
    assert count[1] < count[0] < 8 * count[1] + 200
    browser.run("document.querySelector('button[data-task]').click()")
    shown = browser.run("raddleTimelines[0].chosen.task")
    x, y = place_of(browser, shown)
    browser.mouse("mouseMoved", x, y)
    assert "step" in browser.run("document.querySelector('.tip').innerText")


def test_a_report_holds_several_timelines_that_move_alone(browser, tmp_path):
    records = (recordings.example(), recordings.many(100), recordings.empty(0.0))
    browser.open(written(tmp_path / "report.html", *records))
    assert complaints(browser) == []
    assert browser.run("raddleTimelines.length") == 3
    browser.run("document.querySelectorAll('button[data-do=in]')[1].click()")
    assert visible(browser) == [0, 2]
    assert browser.run("raddleTimelines[1].to - raddleTimelines[1].from") < records[1]["duration"]

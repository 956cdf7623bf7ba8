"""The lecture's parts, its server of pages and its command line."""

import doctest
import inspect
import io
import os
import re
import select
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from lecture import measure, program, report, screen, server
from lecture.pages import SERVER, PageError, Pages, download

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"\d[\d,]*\d(?=[ ,:]|$)")
#: Parts that measure no loop beside the standard library and raddle: they have tests of their own.
WITHOUT_LOOP = (
    "advice",
    "kinds",
    "race",
    "locks",
    "deadlock",
    "processes",
    "choice",
    "batch",
    "gil",
)


@pytest.fixture
def quick(monkeypatch):
    """Make the parts short: waits of hundredths, small sums, few tasks."""
    brief = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 50))
    for name in ("waiting", "completed", "kinds", "threads"):
        monkeypatch.setattr(import_module(f"lecture.part_{name}"), "time", brief)
    monkeypatch.setattr(import_module("lecture.squares"), "LARGEST", 100_000)
    monkeypatch.setattr(import_module("lecture.part_tasks"), "COUNT", 200)
    monkeypatch.setattr(import_module("lecture.part_batch"), "ROWS", 4_000)


def shown(capsys, *words):
    code = program.run(program.arguments(list(words)))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def test_every_module_of_a_part_is_in_the_list():
    modules = {path.stem for path in (ROOT / "lecture").glob("part_*.py")}
    assert modules == {f"part_{name}" for name in program.PARTS}
    assert len(modules) >= 8


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", program.PARTS)
def test_a_part_fits_one_screen_and_is_plain_without_a_terminal(name, capsys):
    code, lines, errors = shown(capsys, "--part", name)
    assert (code, errors) == (0, "")
    assert lines[0].startswith(f"== {name}: ")
    # The line below the part belongs to the prompt.
    assert len(lines) <= 23, "\n".join(lines)
    assert max(map(len, lines)) < 80, max(lines, key=len)
    assert "\n".join(lines).isascii()
    assert "\033" not in "\n".join(lines)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", [name for name in program.PARTS if name not in WITHOUT_LOOP])
def test_a_part_measures_the_loop_the_standard_library_and_raddle(name, capsys):
    _, lines, _ = shown(capsys, "--part", name)
    starts = [line.strip() for line in lines]
    for row in ("loop ", "standard library", "raddle"):
        assert any(line.startswith(row) and line.endswith("x") for line in starts), row


@pytest.mark.usefixtures("quick")
def test_the_lecture_shows_the_parts_in_order_and_writes_its_report(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    _, lines, _ = shown(capsys)
    titles = [line.split(":")[0].removeprefix("== ") for line in lines if line.startswith("==")]
    assert titles == list(program.PARTS)
    written = tmp_path / "report.html"
    assert lines[-1] == f"The report: {written.as_uri()}"
    sections = re.findall(r'<section class="part" id="(\w+)">', written.read_text())
    assert sections == list(program.PARTS)


@pytest.mark.usefixtures("quick")
def test_the_report_has_the_figures_that_were_printed(capsys, tmp_path):
    path = tmp_path / "run.html"
    _, lines, _ = shown(capsys, "--part", "map", "--report", str(path))
    text = path.read_text()
    rows = [line.split() for line in lines if line.endswith("x")]
    assert len(rows) == 3
    for *_, time_, unit, ratio in rows:
        assert f">{time_} {unit}</td>" in text
        assert f">{ratio}</td>" in text
    told = [line.removeprefix("  > ") for line in lines if line.startswith("  > ")]
    assert told and "\n".join(told) in text
    assert text.count('class="raddle-timeline"') == 1


def test_a_table_that_a_part_lays_out_itself_is_one_in_the_report(tmp_path):
    path = tmp_path / "run.html"
    view = screen.Screen(io.StringIO(), report=report.Report())
    view.title("sums", "a sum")
    view.row("  name   time", ["name", "time"], head=True)
    view.row("  a<b   1.0 s", ["a<b", "1.0 s"])
    view.conclude("It took a while.")
    view.report.save(path)
    text = path.read_text()
    assert '<td>a&lt;b</td><td class="number">1.0 s</td>' in text
    assert '<th scope="col" class="number">time</th>' in text
    assert "&lt;t" not in text
    assert view.stream.getvalue().splitlines()[1:3] == ["  name   time", "  a<b   1.0 s"]


def test_a_part_alone_writes_a_report_only_if_asked(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert shown(capsys, "--part", "map")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(capsys, tmp_path):
    for place, reason in ((tmp_path, "folder"), (tmp_path / "none" / "r.html", "no folder")):
        with pytest.raises(SystemExit):
            program.arguments(["--report", str(place)])
        told = capsys.readouterr().err
        assert str(place) in told and reason in told


def test_the_gil_part_draws_threads_that_take_turns(capsys):
    part = import_module("lecture.part_gil")
    _, lines, _ = shown(capsys, "--part", "gil")
    rows = [line.partition("|")[2] for line in lines if line.startswith("  thread ")]
    assert len(rows) == part.WORKERS
    assert all("#" in row for row in rows)
    assert len([line for line in lines if line.startswith("  process ")]) == part.WORKERS
    if any("." in row for row in rows):  # This Python tells who holds the GIL.
        overlaps = [marks for marks in zip(*rows) if marks.count("#") > 1]
        assert overlaps == []


def test_what_is_printed_makes_room_for_the_bar_and_gets_it_back():
    stream, steps = io.StringIO(), []
    bar = SimpleNamespace(
        clear=lambda: steps.append(("clear", stream.getvalue())),
        refresh=lambda: steps.append(("refresh", stream.getvalue())),
    )
    screen.Screen(stream, progress=bar).print("a line")
    assert steps == [("clear", ""), ("refresh", "a line\n")]


@pytest.mark.usefixtures("quick")
def test_the_completed_part_tells_each_item_once(capsys):
    _, lines, _ = shown(capsys, "--part", "completed")
    items = [line for line in lines if line.startswith("  > item")]
    assert sorted(items) == [f"  > item {n}: took {n * 0.5} s" for n in (1, 2, 3)]


@pytest.mark.usefixtures("quick")
def test_the_threads_part_shows_results_and_an_error(capsys):
    _, lines, _ = shown(capsys, "--part", "threads")
    assert "  > threading.Thread: 3 results of 3 are lost" in lines
    assert "  > raddle.Thread: file 1 downloaded, file 2 downloaded, file 3 downloaded" in lines
    assert "  > raddle.Thread without a name: ValueError: a download needs a name" in lines


def test_the_race_part_loses_updates_and_shows_how(capsys):
    _, lines, _ = shown(capsys, "--part", "race")
    (row,) = [line for line in lines if line.startswith("  in three steps")]
    expected, counted, lost = (int(word.replace(",", "")) for word in row.split()[3:6])
    assert expected > 0 == expected % 400_000
    assert 0 < lost == expected - counted
    told = [line for line in lines if line.startswith("  > thread")]
    read, found, wrote, undone = (int(n.replace(",", "")) for n in NUMBER.findall(" ".join(told)))
    assert wrote == read + 1
    assert 0 < undone == found - read
    reader, other, writer = (line.split()[2] for line in told)
    assert reader == writer != other


def test_the_locks_part_counts_right_in_each_way(capsys):
    _, lines, _ = shown(capsys, "--part", "locks")
    assert "  > expected 200,000, all counted 200,000" in lines
    rows = [line[:26].strip() for line in lines if line.endswith("x")]
    assert rows == [
        "threading.Lock, finally",
        "threading.Lock, with",
        "raddle.Lock, finally",
        "raddle.Lock, with",
        "raddle.Counter.add()",
    ]


def test_the_deadlock_part_reports_in_place_of_a_hang(capsys):
    part = import_module("lecture.part_deadlock")
    _, lines, _ = shown(capsys, "--part", "deadlock")
    assert "  > threading.Lock, after 1.00 s: the program hangs, and has been ended" in lines
    text = " ".join(line.removeprefix("  > ").strip() for line in lines)
    source, first = inspect.getsourcelines(part.transfer)
    taken, waiting = (first + n for n, line in enumerate(source) if "with " in line)
    for thread, lock in (("left", "a"), ("right", "b")):
        assert f"'{thread}' took it at part_deadlock.py:{taken} in transfer" in text
        assert f"waits for lock '{lock}' at part_deadlock.py:{waiting} in transfer" in text
    assert lines.count("  > both locks") == 1


@pytest.mark.usefixtures("quick")
def test_the_processes_part_computes_the_same_in_all_four_ways(capsys):
    _, lines, _ = shown(capsys, "--part", "processes")
    (told,) = [line for line in lines if line.startswith("  > n = ")]
    n, *values = (int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d", told))
    assert values == [sum(i * i for i in range(n))]
    rows = [line[:26].strip() for line in lines if line.endswith("x")]
    assert rows == ["sequential", "threads", "processes, standard", "processes, raddle"]


@pytest.mark.usefixtures("quick")
def test_the_choice_part_measures_every_line_for_four_pools(capsys):
    part = import_module("lecture.part_choice")
    _, lines, _ = shown(capsys, "--part", "choice")
    for name in part.LINES:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        figures = re.findall(r"[\d.,]+", line[23:])
        assert len(figures) == len(part.POOLS), line


@pytest.mark.usefixtures("quick")
def test_the_batch_part_has_the_same_result_in_all_ways(capsys):
    _, lines, _ = shown(capsys, "--part", "batch")
    assert "  > 4,000 flights: the same each way" in lines
    for name in ("in 4 parts", "apply, by element", "groups, by carrier"):
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(re.findall(r"[\d.]+ m?s", line)) == 4, line


def test_the_batch_part_reads_the_whole_table():
    part = import_module("lecture.part_batch")
    assert len(part.table_of_flights()) == part.ROWS == 336_776


def test_the_advice_part_answers_for_each_program(capsys):
    _, lines, _ = shown(capsys, "--part", "advice")
    text = "\n".join(lines)
    assert "> waiting for something: threads" in text
    assert "> fast enough already: leave it" in text
    assert "> leave it a plain loop: it stores to the global 'counter'" in text
    assert sum(line.startswith("  > ") for line in lines) == 6


@pytest.mark.usefixtures("quick")
def test_given_pages_take_the_place_of_the_servers(capsys):
    with Pages([]) as pages:
        url = pages.urls(1)[0]
        _, lines, _ = shown(capsys, "--part", "map", "--url", url, url)
    size = len(next(iter(server.PAGES.values())))
    assert lines.count(f"  > threads.html: {size:,} bytes") == 2


def test_a_terminal_has_bars_no_longer_than_the_line():
    stream = io.StringIO()
    view = screen.Screen(stream, bars=True, blocks=True, colour=False)
    view.compare(10.0, 2.0, 0.001)
    lines = stream.getvalue().splitlines()
    assert [line.count("\N{FULL BLOCK}") for line in lines] == [0, screen.BAR_WIDTH, 4, 1]
    assert max(map(len, lines)) < 80


def test_colours_can_be_switched_off(monkeypatch):
    terminal = SimpleNamespace(isatty=lambda: True, encoding="utf-8")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert screen.Screen.of(terminal).colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not screen.Screen.of(terminal).colour


def test_the_server_serves_the_same_pages_in_every_run():
    with Pages([]) as pages:
        urls = pages.urls(10)
        assert len(urls) == 10
        for url in urls:
            path = "/" + url.rpartition("/")[2]
            assert download(url).body == server.PAGES[path]
    assert len({len(page) for page in server.PAGES.values()}) > 5


def test_a_page_that_is_not_there_is_named_in_the_error():
    with Pages([]) as pages:
        missing = pages.urls(1)[0] + "x"
        with pytest.raises(PageError, match=r"threads\.htmlx answered 404"):
            download(missing)


def test_an_unreachable_page_ends_the_lecture_with_one_line(capsys, unused_port):
    code, _, errors = shown(
        capsys, "--part", "downloads", "--url", f"http://127.0.0.1:{unused_port}/a"
    )
    assert code == 1
    assert errors.count("\n") == 1
    assert f"could not download http://127.0.0.1:{unused_port}/a: Connection refused" in errors


def test_the_scraping_part_takes_given_pages_and_shows_their_sizes(capsys):
    with Pages([]) as pages:
        url = pages.urls(1)[0]
        code, lines, _ = shown(capsys, "--part", "scraping", "--url", url, url)
    size = len(next(iter(server.PAGES.values())))
    assert code == 0
    assert lines.count(f"  > threads.html: {size:,} bytes") == 2


def test_a_page_that_cannot_be_scraped_ends_the_part_with_one_line(capsys, unused_port):
    dead = f"http://127.0.0.1:{unused_port}/a"
    with Pages([]) as pages:
        code, _, errors = shown(capsys, "--part", "scraping", "--url", pages.urls(1)[0], dead)
    assert (code, errors.count("\n")) == (1, 1)
    assert str(unused_port) in errors


@pytest.fixture
def unused_port():
    """Hold a port on which nobody listens."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("words", [["--part", "nosuch"], ["--url", "page.html"]])
def test_a_wrong_command_line_is_refused_before_anything_runs(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        program.arguments(words)
    assert exit_.value.code == 2
    assert repr(words[1]) in capsys.readouterr().err


def test_the_server_ends_when_its_input_closes():
    with subprocess.Popen(
        [sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().startswith(b"http://127.0.0.1:")
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd to see an orphan end"
)
def test_the_server_does_not_outlive_a_killed_lecture():
    started = (
        "from lecture.pages import Pages; pages = Pages([]); pages.urls(1)\n"
        "print(pages._server.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", started], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as lecture:
        server_end = os.pidfd_open(int(lecture.stdout.readline()))
        lecture.kill()
        readable, _, _ = select.select([server_end], [], [], 50)
        os.close(server_end)
    assert readable, "the server still runs"


@pytest.mark.parametrize("module", [screen, measure, report])
def test_the_examples_in_docstrings_hold(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def test_a_reader_who_leaves_is_no_error():
    code = (
        "import sys; from lecture import program;"
        "sys.exit(program.run(program.arguments(['--part', 'map'])))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as lecture:
        lecture.stdout.close()
        assert lecture.stderr.read() == b""
        assert lecture.wait() == 1

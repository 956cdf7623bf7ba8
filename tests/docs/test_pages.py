"""The pages of docs/ and the README: their programs run, and print what the pages say."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from page_program import Block, blocks_of, differences, program_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_PROGRAMS = [page for page in PAGES if blocks_of(page.read_text())]
FLIGHTS = "carrier,distance,air_time,dep_delay\n" + "".join(
    f"{'AB'[n % 2]},{100 + n},{1 + n % 3},{n % 7}\n" for n in range(1000)
)


class Pages(BaseHTTPRequestHandler):
    """Answers for every host, as a proxy, so that the pages' programs need no network."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        missing = "missing" in self.path or self.path.endswith("/robots.txt")
        body = b"not here" if missing else b"<h1>A page</h1>" + b"." * 83
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


class Proxy(ThreadingHTTPServer):
    """Takes as many connections at a time as `raddle.fetch` makes, and hangs on to none."""

    request_queue_size = 128
    daemon_threads = True


@pytest.fixture(scope="module")
def proxy():
    with Proxy(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


# More than pytest.ini has: a page is many programs, which start many processes.
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=lambda page: page.stem)
def test_the_programs_of_a_page_run_and_print_what_it_says(page, tmp_path, proxy):
    blocks = blocks_of(page.read_text())
    program = tmp_path / f"page_{page.stem}.py"
    program.write_text(program_of(blocks))
    (tmp_path / "flights.csv").write_text(FLIGHTS)
    outside = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env={**outside, "http_proxy": proxy, "HTTP_PROXY": proxy},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert differences(blocks, done.stdout) == []


def test_there_are_pages_with_programs():
    assert len(WITH_PROGRAMS) >= 10
    assert sum(len(blocks_of(page.read_text())) for page in WITH_PROGRAMS) >= 40


def test_a_page_is_read_as_its_reader_does():
    page = "# P\n```python\nprint(1)\n```\n\nIt prints\n\n```text\n2\n```\n"
    first = "```python\nprint(1)\n```\n\n```text\n1\n```\n<!-- run\nx = 2\n-->\n"
    left_out = "<!-- not run: it needs a printer -->\n```python\nfoo()\n```\n```text\nno\n```\n"
    assert blocks_of(page) == [Block(2, ["print(1)"])]
    assert blocks_of(first + left_out) == [Block(1, ["print(1)"], "1\n"), Block(8, ["x = 2"])]


def test_what_a_block_prints_is_compared():
    blocks = [Block(1, ["print(1)"], "1\n"), Block(5, ["print(2)"], "...\n")]
    assert differences(blocks, "1\n\x1e2\n\x1e") == []
    assert [text[:7] for text in differences(blocks, "0\n\x1e2\n\x1e")] == ["line 1:"]


def test_an_error_is_at_its_line_of_the_page():
    assert program_of([Block(3, ["first"]), Block(9, ["second"])]).splitlines()[9] == "second"
    assert program_of([Block(3, ["first"])]).splitlines()[3] == "first"

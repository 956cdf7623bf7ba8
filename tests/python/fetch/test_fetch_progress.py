"""Progress: a bar where a person looks, silence where nobody does, and a function if given."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from faults import Faults
from programs import run


def test_a_function_is_told_how_many_are_done(raddle, faults: Faults):
    told = []
    raddle.fetch([faults.url("ok")] * 20, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (20, 20)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {total for _, total in told} == {20}


def test_an_input_without_a_length_has_no_total(raddle, faults: Faults):
    told = []
    urls = iter([faults.url("ok")] * 5)
    raddle.fetch(urls, progress=lambda done, total: told.append((done, total)))
    assert told[-1] in ((5, None), (5, 5))


def test_what_fails_is_done_too(raddle, faults: Faults):
    told = []
    raddle.fetch(["no url", faults.url("ok")], progress=lambda *both: told.append(both))
    assert told[-1] == (2, 2)


def test_a_function_that_raises_ends_the_batch(raddle, faults: Faults):
    def progress(done, total):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        raddle.fetch([faults.url("ok")] * 3, progress=progress)
    assert raddle.get(faults.url("ok")).ok


def test_iterators_and_downloads_tell_too(raddle, faults: Faults, tmp_path):
    told = []
    list(raddle.fetch_iter([faults.url("ok")] * 3, progress=lambda *both: told.append(both)))
    assert told[-1] == (3, 3)
    raddle.download([faults.url("ok")] * 2, tmp_path, progress=lambda *both: told.append(both))
    assert told[-1] == (2, 2)


def program(faults: Faults, **given) -> str:
    options = "".join(f", {name}={value!r}" for name, value in given.items())
    return f"import raddle; raddle.fetch([{faults.url('later', seconds=0.3)!r}] * 2{options})"


def test_nothing_is_said_into_a_pipe(faults: Faults):
    source = program(faults)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_bar_can_be_asked_for_in_a_pipe(faults: Faults):
    source = program(faults, progress=True)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "2/2" in done.stderr


def on_terminal(source: str) -> str:
    """Run a program whose stderr is a terminal and return what it wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", source], stderr=slave, stdin=slave)
    os.close(slave)
    said = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not piece:
            break
        said += piece
    os.close(master)
    assert process.wait() == 0, said.decode()
    return said.decode()


def test_a_terminal_has_a_bar(faults: Faults):
    assert "2/2" in on_terminal(program(faults))


def test_the_bar_can_be_switched_off(faults: Faults):
    assert on_terminal(program(faults, progress=False)) == ""


def test_the_bar_is_loaded_only_where_it_is_shown(faults: Faults):
    code, output, errors = run(
        "raddle",
        f"""
        futures.fetch([{faults.url("ok")!r}])
        say("tqdm" in sys.modules)
        """,
    )
    assert (code, output, errors) == (0, ["False"], [])


def test_a_batch_of_asyncio_tells_now_and_then_and_at_its_end(raddle, faults: Faults, monkeypatch):
    calls: list[tuple[int, int | None]] = []
    # A clock that stands still: nothing is told before the end, however many have come.
    monkeypatch.setattr("raddle._fetch_async.time.monotonic", lambda: 0.0)

    async def main():
        urls = [faults.url("ok")] * 50
        await raddle.fetch_async(urls, progress=lambda *told: calls.append(told))

    asyncio.run(main())
    assert calls == [(50, 50)]

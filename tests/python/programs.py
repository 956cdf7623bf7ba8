"""Programs that a test runs in an interpreter of their own.

For what a test cannot do to the interpreter that runs it: exit, fork, be interrupted.  A
program finds the library under test as ``futures`` and ``say`` to write a line.  Its threads'
stacks are shown if it does not end.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import IO

SECONDS = 50.0
PRELUDE = """
import {library} as futures, os, signal, sys, threading, time
def say(*words):  # one write a line, so that threads do not tear each other's lines
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


class Program:
    """A running program: say it lines, read its lines, interrupt it, wait for its end."""

    def __init__(self, library: str, source: str) -> None:
        text = PRELUDE.format(library=library) + textwrap.dedent(source)
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self.output: list[str] = []
        self.errors: list[str] = []
        self._out = self._follow(self._process.stdout, self.output)
        self._err = self._follow(self._process.stderr, self.errors)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_details: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @staticmethod
    def _follow(stream: IO[str] | None, seen: list[str]) -> queue.SimpleQueue[str | None]:
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert stream is not None

        def follow() -> None:
            for line in stream:
                seen.append(line.rstrip("\n"))
                lines.put(line.rstrip("\n"))
            lines.put(None)

        threading.Thread(target=follow, daemon=True).start()
        return lines

    def _next(self, lines: queue.SimpleQueue[str | None], what: str) -> str:
        try:
            line = lines.get(timeout=SECONDS)
        except queue.Empty:
            self._give_up(f"the program said nothing on {what}")
        if line is None:
            self._give_up(f"the program closed {what}")
        return line

    def read(self) -> str:
        """The next line of the program's output."""
        return self._next(self._out, "stdout")

    def read_error(self) -> str:
        """The next line of its error output."""
        return self._next(self._err, "stderr")

    def expect(self, line: str) -> None:
        """Read the next line of output, which has to be *line*."""
        assert self.read() == line, "\n".join(self.output + self.errors)

    def say(self, line: str = "") -> None:
        """Write a line to the program's input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(self._process.pid, signal.SIGINT)

    def wait_blocked(self) -> None:
        """Wait until the main thread sleeps, for ten looks in a row.

        No test needs this to be right: it lets an interrupt arrive where it is interesting.
        """
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/stat")
        pause, looks = threading.Event(), 0
        while looks < 10:
            state = path.read_text().rpartition(")")[2].split()[0]
            looks = looks + 1 if state == "S" else 0
            pause.wait(0.01)

    def ended(self) -> bool:
        """Whether the program is over."""
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        try:
            code = self._process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self._give_up("the program does not end")
        for lines in (self._out, self._err):
            while lines.get() is not None:
                pass
        return code

    def _give_up(self, why: str) -> None:
        """Fail, with what the program said and where its threads stand."""
        self._process.send_signal(signal.SIGABRT)
        self._process.wait()
        threading.Event().wait(0.5)
        said = "\n".join(["--- stdout", *self.output, "--- stderr", *self.errors])
        raise AssertionError(f"{why}\n{said}")


def run(library: str, source: str) -> tuple[int, list[str], list[str]]:
    """Run a program to its end: exit code, lines of output, lines of error output."""
    with Program(library, source) as program:
        code = program.wait()
        return code, program.output, program.errors

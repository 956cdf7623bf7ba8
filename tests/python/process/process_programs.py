"""Programs with pools of processes: everything that they start, whatever becomes of them.

A program is marked by a variable of its environment, which all that it starts inherits, forked
or not and in whatever session; so a test can wait until nothing of it is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from pathlib import Path

from programs import SECONDS, Program

HERE = Path(__file__).parent
# What the programs of these tests begin with: gates and tasks can be imported, by workers too.
WITH_TASKS = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import process_tasks as tasks
"""


def with_mark(mark: str) -> list[int]:
    """The processes that carry a mark in their environment and have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environment and state != "Z":
            found.append(int(folder.name))
    return found


class MarkedProgram(Program):
    """A program whose processes can be told apart, and pressed and killed together."""

    def __init__(self, source: str, library: str = "raddle", folder: Path | None = None) -> None:
        self.mark = f"TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        before = dict(os.environ)
        os.environ[name] = value
        if folder is not None:
            os.environ["TMPDIR"] = str(folder)
        try:
            super().__init__(library, WITH_TASKS + textwrap.dedent(source))
        finally:
            os.environ.clear()
            os.environ.update(before)

    @property
    def pid(self) -> int:
        """The process of the program itself."""
        return self._process.pid

    def __exit__(self, *details: object) -> None:
        # First those that hold the ends of its pipes, or closing them would wait for ever.
        for pid in with_mark(self.mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        super().__exit__(*details)

    def others(self) -> list[int]:
        """The processes that it has started and that have not ended."""
        return [pid for pid in with_mark(self.mark) if pid != self.pid]

    def press_ctrl_c(self) -> None:
        """Interrupt as a terminal does: everything in the foreground gets the signal."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """End the program alone, as nothing can prevent."""
        os.kill(self.pid, signal.SIGKILL)

    def wait_nothing_left(self) -> None:
        """Wait until no process of the program is there; the test's watchdog bounds it."""
        pause = threading.Event()
        while left := with_mark(self.mark):
            pause.wait(0.01)
            del left


def run_python(*arguments: str, input: str | None = None, folder: Path | None = None) -> list[str]:
    """Run Python with arguments; its lines of output. It must leave with 0 and write no errors."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=input,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=folder,
    )
    errors = [line for line in done.stderr.splitlines() if line.strip("> .")]
    assert (done.returncode, errors) == (0, []), done.stdout + done.stderr
    return done.stdout.splitlines()

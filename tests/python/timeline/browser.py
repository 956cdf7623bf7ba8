"""A browser without a screen, driven by the DevTools protocol over its pipe: no port, no driver."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: Nothing is looked up, fetched or updated behind the test's back; root needs --no-sandbox.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-extensions --disable-default-apps --hide-scrollbars --remote-debugging-pipe"
).split()
#: The browser reads commands from descriptor 3 and answers on 4; ours may have any numbers.
START = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
#: Seconds until an answer that does not come fails the test; less than its watchdog has.
PATIENCE = 50.0


def find() -> str | None:
    """Return the path of a browser on this machine."""
    found = (shutil.which(name) for name in NAMES)
    return next((path for path in found if path), None)


class Browser:
    """One browser with one tab; what the tab tells is kept in `events`."""

    def __init__(self, path: str, folder: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        words = [path, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._log = (folder / "browser.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", START, str(commands), str(answers), *words],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self._rest, self._last, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def close(self) -> None:
        """End the browser and all of its processes."""
        os.close(self._commands)
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        os.close(self._answers)
        self._log.close()

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Give a command and return its result."""
        self._last += 1
        number = self._last
        command = {"id": number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        answer = self._wait(lambda message: message.get("id") == number, method)
        assert "error" not in answer, (method, answer["error"])
        return dict(answer["result"])

    def _wait(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self._rest:
                line, _, self._rest = self._rest.partition(b"\0")
                message = json.loads(line)
                if "method" in message:
                    self.events.append(message)
                if wanted(message):
                    return dict(message)
            ready = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]
            data = os.read(self._answers, 1 << 20) if ready else b""
            assert data, f"the browser {'has ended' if ready else 'does not answer'}: {what}"
            self._rest += data

    def open(self, path: Path, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Load a page at a size and in a colour scheme; `events` are then those of this page."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media="", features=features)
        self.call("Emulation.setTouchEmulationEnabled", enabled=width < 600)
        # What the last page still tells belongs to that page.
        self._load("about:blank")
        self.events.clear()
        self._load(path.as_uri())

    def _load(self, address: str) -> None:
        loader = self.call("Page.navigate", url=address)["loaderId"]

        def is_loaded(message: dict[str, Any]) -> bool:
            about = message.get("params", {})
            return about.get("loaderId") == loader and about.get("name") == "load"

        if not any(map(is_loaded, self.events)):
            self._wait(is_loaded, f"loading {address}")

    def run(self, program: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=program, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        """Move, press, release or turn the wheel of the mouse."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        """Click with the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press and release a key, by the name that its event has."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38}
        codes |= {"ArrowRight": 39, "ArrowDown": 40}
        text = {"text": key} if len(key) == 1 else {}
        code = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        for kind in ("keyDown", "keyUp"):
            more = text if kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more
            )

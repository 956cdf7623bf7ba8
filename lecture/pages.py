"""The pages that the lecture downloads: those the user gave, or those of a server of its own.

Invariant: the server is a process of its own that ends with this one, however this one ends:
it reads its standard input, which closes then.
"""

import os
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

SERVER = Path(__file__).with_name("server.py")
TIMEOUT = 10.0


class PageError(Exception):
    """A page could not be downloaded; the text says which one and why."""


class Page(NamedTuple):
    """A downloaded page: its address and what it holds."""

    url: str
    body: bytes

    def __str__(self) -> str:
        """Tell the page by the last part of its address and its size."""
        name = self.url.rstrip("/").rpartition("/")[2]
        return f"{name}: {len(self.body):,} bytes"


def download(url: str) -> Page:
    """Fetch one page.

    Raises
    ------
    PageError
        If there is no answer within 10 seconds, or none that is a page.
    """
    try:
        with urlopen(url, timeout=TIMEOUT) as response:
            return Page(url, response.read())
    except HTTPError as error:
        error.close()
        raise PageError(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise PageError(f"could not download {url}: {said}") from error


class Pages:
    """The addresses to download from; a context manager that ends the server it started.

    Parameters
    ----------
    given : list of str
        The user's addresses; if there are none, a server is started when the first is needed.
    """

    def __init__(self, given: list[str]) -> None:
        self._urls = given
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Pages":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            with self._server:  # closes its standard input and waits for its end
                self._server = None

    def urls(self, count: int) -> list[str]:
        """Return at most this many addresses, having tried the first one."""
        if not self._urls:
            self._urls = self._start()
        download(self._urls[0])
        return self._urls[:count]

    def _start(self) -> list[str]:
        command = [sys.executable, str(SERVER)]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        output: IO[str] | None = self._server.stdout
        assert output is not None
        base = output.readline().strip()
        if not base:
            code = self._server.wait()
            raise PageError(f"the lecture's own server ended with exit code {code}, see above")
        # A proxy of the user's network is no way to a server on this machine.
        os.environ["no_proxy"] = ",".join(filter(None, ["127.0.0.1", os.environ.get("no_proxy")]))
        return [base + name for name in output.readline().split()]

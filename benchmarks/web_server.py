"""nginx on loopback addresses, with a private configuration and one worker, and wrk beside it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.model import Sample, Scale

SIZES = {"1k": 1024, "100k": 102_400}
DEBIAN = "on Debian and Ubuntu: apt-get install nginx-light"
CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    open_file_cache max=16 inactive=1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        {listen}
        root {folder}/pages;
    }}
}}
"""


class NginxMissing(Exception):
    """There is no nginx on this machine; the text says how to get it."""


def find(program: str) -> str | None:
    """Return the path of a program, also of one that Debian keeps for the administrator."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def check() -> None:
    """Raise `NginxMissing` if there is no nginx."""
    if find("nginx") is None:
        raise NginxMissing(f"the pages come from nginx, which is not installed; {DEBIAN}")


def free_port(hosts: Sequence[str]) -> int:
    """Return a port that is free on each of the hosts."""
    while True:
        taken: list[socket.socket] = []
        try:
            for host in hosts:
                taken.append(socket.socket())
                taken[-1].bind((host, taken[0].getsockname()[1] if len(taken) > 1 else 0))
            return int(taken[0].getsockname()[1])
        except OSError:  # taken on one of the hosts: the next port may not be
            continue
        finally:
            for one in taken:
                one.close()


def command(nginx: str, folder: Path) -> list[str]:
    """Return the command that runs nginx, so that it ends with this process where that works."""
    guard = find("setpriv")
    start = [guard, "--pdeathsig", "TERM"] if guard else []
    return [*start, nginx, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def prepare(folder: Path, hosts: Sequence[str], port: int) -> None:
    """Write the pages and the configuration."""
    (folder / "pages").mkdir()
    for name, size in SIZES.items():
        (folder / "pages" / name).write_bytes(b"x" * size)
    text = CONFIGURATION.format(
        folder=folder,
        user="user root;" if os.geteuid() == 0 else "",
        listen="\n        ".join(f"listen {host}:{port} backlog=4096;" for host in hosts),
    )
    (folder / "nginx.conf").write_text(text)


@contextmanager
def nginx(hosts: Sequence[str] = ("127.0.0.1",)) -> Iterator[int]:
    """Serve the pages ``/1k`` and ``/100k`` on all hosts at one port, which is given."""
    check()
    with tempfile.TemporaryDirectory(prefix="raddle-bench-") as name:
        folder, port = Path(name), free_port(hosts)
        prepare(folder, hosts, port)
        program = find("nginx")
        assert program is not None
        process = subprocess.Popen(command(program, folder))
        try:
            wait_until_served(process, hosts[-1], port)
            yield port
        finally:
            process.terminate()
            process.wait()


def wait_until_served(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    """Wait until nginx listens; raise RuntimeError if it ended instead."""
    while process.poll() is None:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            continue
        return
    raise RuntimeError(f"nginx ended with status {process.returncode}: it says why above")


def wrk(url: str, connections: int, scale: Scale) -> Sample | None:
    """Return a sampler of wrk's seconds a request, or None where wrk is not installed."""
    program = find("wrk")
    if program is None:
        return None
    seconds = max(1, round(scale.figure_seconds * 5))
    words = [program, "-t1", f"-c{connections}", f"-d{seconds}s", url]

    def sample() -> float:
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found = re.search(r"Requests/sec:\s+([\d.]+)", told)
        assert found and "Non-2xx" not in told and "Socket errors" not in told, told
        return 1 / float(found[1])

    return sample

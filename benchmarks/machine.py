"""What the figures were taken on, and whether it was quiet; never a path or a machine's name."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

QUIET_LOAD = 0.5
QUIET_CORES = 0.1
WATCH_SECONDS = 1.0


def describe() -> dict[str, Any]:
    """Return versions, processor, load and date, ready for a JSON file."""
    load = os.getloadavg()[0]
    busy = busy_cores()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "raddle": _raddle_version(),
        "rustc": _rustc_version(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average_before": round(load, 2),
        "cores_busy_before": round(busy, 2),
        "quiet": load <= QUIET_LOAD and busy <= QUIET_CORES,
    }


def busy_cores() -> float:
    """Watch for a second how many cores other programs keep busy."""
    idle_before, total_before = _processor_ticks()
    time.sleep(WATCH_SECONDS)
    idle_after, total_after = _processor_ticks()
    total = max(1, total_after - total_before)
    return (1 - (idle_after - idle_before) / total) * (os.cpu_count() or 1)


def warn_unless_quiet(machine: dict[str, Any]) -> None:
    """Say on standard error that figures of a busy machine are worth little."""
    if not machine["quiet"]:
        print(
            f"warning: this machine is not quiet: load average {machine['load_average_before']}, "
            f"{machine['cores_busy_before']} cores busy with other programs; end them, wait "
            "until the load average is below 0.5, and measure again",
            file=sys.stderr,
        )


def _processor_ticks() -> tuple[int, int]:
    first = Path("/proc/stat").read_text().splitlines()[0]
    ticks = [int(field) for field in first.split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _raddle_version() -> str:
    try:
        return importlib.metadata.version("raddle")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _rustc_version() -> str:
    try:
        answer = subprocess.run(["rustc", "--version"], capture_output=True, text=True)
    except FileNotFoundError:
        return "not installed"
    return answer.stdout.strip()

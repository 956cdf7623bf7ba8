"""How many cores the program may use: what the system allows, not what the machine has."""

from __future__ import annotations

import os
import sys

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: The controllers of a hierarchy of version 1 whose quota counts.
_CONTROLLER = "cpu"


def cpu_count() -> int:
    """Return how many cores this program can keep busy.

    The smaller of two: the cores on which it may run (its affinity), and the time that the control
    groups it is in grant it, in cores, rounded up. A program in a container that was given two of
    64 cores gets 2. In a worker of a `ProcessPoolExecutor` it is the worker's share of these.

    Returns
    -------
    int
        At least 1.

    See Also
    --------
    os.process_cpu_count : Affinity alone, from Python 3.13 on.

    Notes
    -----
    ``python -X cpu_count=n`` and the environment variable ``PYTHON_CPU_COUNT``, by which the user
    overrides `os.cpu_count` from Python 3.13 on, override this too, but for the share of a worker,
    which is one of what they say. What limits a group limits all
    groups in it: every level up to the root of the hierarchy is looked at. It is looked up anew at
    each call, since limits may be changed while the program runs.

    References
    ----------
    The kernel's documentation: "Control Group v2", section "CPU Interface Files" (``cpu.max``),
    and "CFS Bandwidth Control" (``cpu.cfs_quota_us``, ``cpu.cfs_period_us`` of version 1);
    cgroups(7) and sched_getaffinity(2).

    Examples
    --------
    >>> import raddle
    >>> 1 <= raddle.cpu_count() <= os.cpu_count()
    True
    """
    cores = _override() or limited(len(os.sched_getaffinity(0)), "/")
    share = os.environ.get("RADDLE_CORES", "")
    return max(1, min(cores, int(share))) if share.isdecimal() else cores


def _override() -> int | None:
    """Return what the user has told the interpreter, where that is heard of."""
    # Of the interpreters that know the setting.
    if not hasattr(os, "process_cpu_count"):
        return None
    told = sys._xoptions.get("cpu_count") or os.environ.get("PYTHON_CPU_COUNT")
    # Heard of at the start alone: a variable that was set since, or is ignored, is not in force.
    is_in_force = isinstance(told, str) and told == str(os.cpu_count())
    return os.cpu_count() if is_in_force else None


def limited(cores: int, root: str) -> int:
    """Return how many of these cores the control groups allow, with the file system at `root`."""
    # Rounded up: what is left of a core would lie idle else.
    allowed = (-int(-quota // 1) for quota in _quotas(root))
    return max(1, min((cores, *allowed)))


def _quotas(root: str) -> Iterator[float]:
    """Yield the limits, in cores, of all groups that this process is in."""
    mounts = list(_mounts(_read(root, "proc/self/mountinfo")))
    for line in _read(root, "proc/self/cgroup").splitlines():
        # Number of the hierarchy, its controllers, and the group; version 2 names no controllers.
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/"):
            continue
        if controllers and _CONTROLLER not in controllers.split(","):
            continue
        wanted, read = ("cgroup", _legacy_quota) if controllers else ("cgroup2", _unified_quota)
        for kind, options, top, mounted in mounts:
            if kind == wanted and (not controllers or _CONTROLLER in options):
                for folder in _levels(mounted, _below(path, top)):
                    quota = read(root, folder)
                    if quota is not None:
                        yield quota


def _mounts(text: str) -> Iterator[tuple[str, list[str], str, str]]:
    """Yield kind, options, top and place of each mounted hierarchy; proc_pid_mountinfo(5)."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if kinds[0] in ("cgroup", "cgroup2") and len(fields) > 4:
            yield kinds[0], kinds[-1].split(","), _plain(fields[3]), _plain(fields[4])


def _plain(path: str) -> str:
    """Return a path of mountinfo with its spaces as they are."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(escape, character)
    return path


def _below(path: str, top: str) -> str:
    """Return the path of a group below what is mounted: a container may see only a part."""
    if top == "/":
        return path
    if path == top or path.startswith(top + "/"):
        return path[len(top) :]
    # Of a part that is not mounted here: what is mounted is all that can be looked at.
    return ""


def _levels(mounted: str, path: str) -> Iterator[str]:
    """Yield the folder of a group and of each that it is in."""
    names = [name for name in path.split("/") if name]
    if ".." in names:
        names = []
    for count in range(len(names), -1, -1):
        yield "/".join([mounted.rstrip("/"), *names[:count]])


def _unified_quota(root: str, folder: str) -> float | None:
    words = _read(root, folder + "/cpu.max").split()
    if not words or words[0] == "max":
        return None
    return _ratio(words[0], words[1] if len(words) > 1 else "100000")


def _legacy_quota(root: str, folder: str) -> float | None:
    quota = _read(root, folder + "/cpu.cfs_quota_us")
    return _ratio(quota, _read(root, folder + "/cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """Return the cores of a quota: None for -1, which is no limit, or what is no number."""
    try:
        time, length = int(quota), int(period)
    except ValueError:
        return None
    return time / length if time > 0 and length > 0 else None


def _read(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path.lstrip("/")), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

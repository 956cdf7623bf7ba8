"""`raddle.cpu_count`: affinity and the quotas of control groups, read from trees made by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import raddle
from raddle import _cores

MANY = 64
UNIFIED = "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
LEGACY = (
    "30 1 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
    "31 30 0:27 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 30 0:28 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)
Tree = Callable[..., int]


@pytest.fixture
def count(tmp_path: Path) -> Tree:
    """The cores that are allowed of 64, in a file system with these files."""

    def count(mounts: str, groups: str, files: dict[str, str], cores: int = MANY) -> int:
        tree = {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}
        for path, text in tree.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return _cores.limited(cores, str(tmp_path))

    return count


def test_no_control_group_leaves_all_cores(tmp_path: Path) -> None:
    assert _cores.limited(MANY, str(tmp_path)) == MANY


def test_no_limit_leaves_all_cores(count: Tree) -> None:
    assert count(UNIFIED, "0::/a\n", {"sys/fs/cgroup/a/cpu.max": "max 100000\n"}) == MANY


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("20000 100000", 1),
        ("100000 50000", 2),
        ("300000", 3),
        ("9900000 100000", MANY),
    ],
)
def test_a_quota_of_version_2_is_rounded_up(count: Tree, limit: str, cores: int) -> None:
    assert count(UNIFIED, "0::/a\n", {"sys/fs/cgroup/a/cpu.max": limit + "\n"}) == cores


def test_the_smallest_limit_of_all_levels_counts(count: Tree) -> None:
    files = {
        "sys/fs/cgroup/a/b/c/cpu.max": "800000 100000",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000",
        "sys/fs/cgroup/a/cpu.max": "300000 100000",
    }
    assert count(UNIFIED, "0::/a/b/c\n", files) == 3


def test_the_root_of_a_namespace_has_a_limit_too(count: Tree) -> None:
    assert count(UNIFIED, "0::/\n", {"sys/fs/cgroup/cpu.max": "400000 100000"}) == 4


def test_a_group_of_another_process_limits_nothing(count: Tree) -> None:
    assert count(UNIFIED, "0::/a\n", {"sys/fs/cgroup/b/cpu.max": "100000 100000"}) == MANY


def legacy(folder: str, quota: str, period: str = "100000") -> dict[str, str]:
    """The files of a group of version 1."""
    place = f"sys/fs/cgroup/cpu,cpuacct{folder}"
    return {f"{place}/cpu.cfs_quota_us": quota + "\n", f"{place}/cpu.cfs_period_us": period + "\n"}


GROUPS = "12:memory:/box\n4:cpu,cpuacct:/box\n1:name=systemd:/box\n0::/box\n"


def test_a_quota_of_version_1_limits(count: Tree) -> None:
    assert count(LEGACY.format(top="/"), GROUPS, legacy("/box", "250000")) == 3


def test_minus_one_is_no_limit_in_version_1(count: Tree) -> None:
    assert count(LEGACY.format(top="/"), GROUPS, legacy("/box", "-1")) == MANY


def test_an_outer_group_of_version_1_limits_too(count: Tree) -> None:
    files = {**legacy("/box", "-1"), **legacy("", "500000")}
    assert count(LEGACY.format(top="/"), GROUPS, files) == 5


def test_a_container_sees_its_own_group_as_the_root_of_the_mount(count: Tree) -> None:
    assert count(LEGACY.format(top="/box"), GROUPS, legacy("", "200000")) == 2


def test_a_group_that_is_not_mounted_here_is_looked_for_at_the_root(count: Tree) -> None:
    mounts = LEGACY.format(top="/elsewhere")
    assert count(mounts, GROUPS, legacy("", "200000")) == 2


def test_a_mount_with_a_space_in_its_path_is_found(count: Tree) -> None:
    mounts = "30 1 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n"
    assert count(mounts, "0::/\n", {"my groups/cpu.max": "200000 100000"}) == 2


@pytest.mark.parametrize("rubbish", ["", "\n", "many few\n", "-1 100000\n", "100000 0\n", "0 1"])
def test_rubbish_limits_nothing(count: Tree, rubbish: str) -> None:
    assert count(UNIFIED, "0::/a\n", {"sys/fs/cgroup/a/cpu.max": rubbish}) == MANY


@pytest.mark.parametrize("rubbish", ["", "\n", "x", "0:\n:::\n", " - cgroup2\n"])
def test_rubbish_in_the_lists_limits_nothing(count: Tree, rubbish: str) -> None:
    files = {"sys/fs/cgroup/cpu.max": "100000 100000"}
    assert count(rubbish, "0::/\n", files) == MANY
    assert count(UNIFIED, rubbish, files) == MANY


def test_affinity_counts_when_it_is_less_than_the_quota(count: Tree) -> None:
    assert count(UNIFIED, "0::/\n", {"sys/fs/cgroup/cpu.max": "400000 100000"}, cores=2) == 2


def test_affinity_of_this_process_counts() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert raddle.cpu_count() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert 1 <= raddle.cpu_count() <= len(before)


def counted(*options: str, **variables: str) -> str:
    """What another interpreter says."""
    code = "import raddle; print(raddle.cpu_count())"
    environ = {**os.environ, **variables}
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def test_the_interpreters_own_setting_overrides() -> None:
    usual = f"{raddle.cpu_count()}\n"
    # Older interpreters know neither, and ignore both.
    wanted = "77\n" if sys.version_info >= (3, 13) else usual
    assert counted("-X", "cpu_count=77") == wanted
    assert counted(PYTHON_CPU_COUNT="77") == wanted
    assert counted("-X", "cpu_count=default", PYTHON_CPU_COUNT="77") == usual

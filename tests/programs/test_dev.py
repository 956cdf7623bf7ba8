"""dev.py, and the runner of CPython's own tests: what can be told without a build."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import dev

ROOT = Path(__file__).resolve().parents[2]


def run_dev(*words):
    command = [sys.executable, ROOT / "dev.py", *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_requirement_is_pinned_and_has_its_reason():
    files = (*dev.REQUIREMENTS, *dev.PEERS.values())
    lines = [line for name in files for line in (ROOT / name).read_text().splitlines()]
    packages = [line for line in lines if line and not line.startswith("#")]
    assert len(packages) >= 3
    for line in packages:
        assert re.fullmatch(r"[\w-]+==[\w.]+\s+# .+", line), line
    assert len(dev.pinned(more=tuple(dev.PEERS.values()))) == len(packages)
    assert [re.split("=", package)[0] for package in dev.pinned(("maturin",))] == ["maturin"]


def test_a_package_that_is_pinned_twice_has_one_version():
    pinned = set(dev.pinned(more=tuple(dev.PEERS.values())))
    assert len({package.partition("=")[0] for package in pinned}) == len(pinned)


def test_a_python_is_found_by_its_path_and_a_broken_one_is_not(tmp_path):
    python = dev.find_python(sys.executable)
    assert python.version == sys.version_info[:3]
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert dev.find_python(str(shim)) is None


def test_a_python_that_is_not_there_has_an_exit_code_of_its_own():
    done = run_dev("build", "--python", "3.99")
    assert done.returncode == dev.NO_SUCH_PYTHON
    assert done.stderr == "dev.py: the Python asked for, 3.99, was not found\n"


def test_an_unknown_command_is_refused():
    done = run_dev("frobnicate")
    assert done.returncode == 2
    assert "frobnicate" in done.stderr


def test_a_failing_step_gives_its_exit_code(capfd):
    with pytest.raises(SystemExit) as exit_:
        dev.run(sys.executable, "-c", "raise SystemExit(7)")
    assert exit_.value.code == 7
    assert "ended with exit code 7" in capfd.readouterr().err


def test_a_step_ended_by_a_signal_gives_the_shells_exit_code(capfd):
    with pytest.raises(SystemExit) as exit_:
        dev.run(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    assert exit_.value.code == 128 + 9
    assert "was ended by signal 9" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("rustc", "message"),
    [
        ("echo rustc 1.2.3", "or newer, and this is 1.2"),
        ("echo no toolchain >&2; exit 1", "rustc does not run: no toolchain"),
    ],
)
def test_an_unfit_rust_toolchain_is_named(tmp_path, monkeypatch, capsys, rustc, message):
    for name in ("rustc", "cargo"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{rustc}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        dev.check_toolchain()
    assert message in capsys.readouterr().err


def test_a_missing_rust_toolchain_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        dev.check_toolchain()
    assert "no Rust toolchain found" in capsys.readouterr().err


def test_a_changed_source_changes_the_state_of_the_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    (tmp_path / "crates").mkdir()
    source = tmp_path / "crates" / "lib.rs"
    states = set()
    for text in ("one", "two"):
        source.write_text(text)
        states.add(dev.sources())
    source.rename(source.with_name("other.rs"))
    states.add(dev.sources())
    assert len(states) == 3


def test_a_known_difference_needs_its_reason(tmp_path):
    runner = runpy.run_path(str(ROOT / "tests" / "conformance" / "run_cpython_suite.py"))
    listed = tmp_path / "known.txt"
    listed.write_text("# a comment\n\ntest.a.b  # cannot pass, for a reason\n")
    assert runner["read_known"](listed) == {"test.a.b"}
    listed.write_text("test.a.b\n")
    with pytest.raises(SystemExit, match=r"test\.a\.b is listed without a reason"):
        runner["read_known"](listed)


def test_few_differences_are_listed_and_one_way_of_breaking_explains_the_rest():
    folder = ROOT / "tests" / "conformance"
    runner = runpy.run_path(str(folder / "run_cpython_suite.py"))
    always = runner["read_known"](folder / "known_differences.txt")
    by_default = runner["read_known"](folder / "known_differences_by_default.txt")
    assert 0 < len(always) <= 15
    assert {name.rpartition(".")[2] for name in by_default} == {"test_killed_child"}
    assert not always & by_default

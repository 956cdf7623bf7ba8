"""Functions and classes of ``__main__`` in worker processes, with a program of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("codec_main_program.py")
CHECKS = re.findall(r"^@check\ndef (\w+)", PROGRAM.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What became of each check."""
    ran = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    return found


def test_the_program_ran_all_checks(outcomes: dict[str, str]) -> None:
    assert CHECKS
    assert sorted(outcomes) == sorted(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_in_the_program(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == ""

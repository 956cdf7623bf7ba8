"""The programs of examples/ run as they stand."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
EXPECTED = {
    "fetch": "not an address: InvalidURL\n2 of 4 are pages",
    "threads": "modules have",
    "locks": "balance: 400, in 400 deposits\nDeadlockError: 2 threads wait for each other",
    "options": "fetched on attempt 3\nTaskTimeout: ",
    "processes": "17,984 primes below 200,000\nclosures: [1000, 1001, 1002]\n10: 100\n",
    "choice": "wait: 50 of 50 items done",
    "asyncio_pool": "awaited: 49\ngathered: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81] in",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_it_stands(path):
    done = subprocess.run([sys.executable, "-X", "dev", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert EXPECTED[path.stem] in done.stdout


def test_every_example_has_an_expected_output():
    assert {path.stem for path in EXAMPLES} == set(EXPECTED)
    assert len(EXAMPLES) >= 4

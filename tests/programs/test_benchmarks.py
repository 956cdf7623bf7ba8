"""What the benchmarks derive from their figures, and that every case can be read back."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import fetch, readme, report, threads, web_server
from benchmarks.model import RADDLE, Result, Target

ROOT = Path(__file__).resolve().parents[2]
TARGET = Target(5, 8, ["slow"], further=[Target(3, None, ["quick"])])


def result(slow: float, quick: float) -> Result:
    figures = {RADDLE: [1.0, 2.0], "slow": [slow, 2 * slow], "quick": [quick, 2 * quick]}
    return Result("case", "a case", "us a task", target=TARGET, figures=figures)


@pytest.mark.parametrize(
    ("slow", "quick", "verdict"),
    [
        (8, 3, "met, aim too"),
        (7, 3, "met"),
        (7, 2.9, "missed"),
        (4.9, 9, "missed"),
    ],
)
def test_each_of_several_targets_must_be_reached(slow, quick, verdict):
    assert result(slow, quick).verdict == verdict


def test_a_target_says_what_it_asks_for():
    assert str(TARGET) == "at least 5x slow (aim 8x), at least 3x quick"


def test_a_result_is_read_back_as_it_was_written():
    written = result(8, 3)
    again = Result.from_json(json.loads(json.dumps(written.to_json())))
    assert (str(again.target), again.verdict) == (str(written.target), written.verdict)
    assert again.figures == written.figures


def test_every_case_has_a_name_of_its_own_and_a_unit_that_is_known():
    from benchmarks.measure import FACTORS

    cases = [*threads.CASES, *fetch.CASES]
    assert len(cases) >= 20
    assert len({case.name for case in cases}) == len(cases)
    assert {case.unit.split()[0] for case in cases} <= set(FACTORS)


def test_the_results_that_are_kept_can_be_read_and_shown():
    paths = sorted(report.RESULTS.glob("*.json"))
    assert len(paths) >= 2
    for path in paths:
        suite = json.loads(path.read_text())
        assert readme.block(suite).startswith("| case |")
        assert path.with_suffix(".md").read_text().endswith(report.markdown(suite))


def test_a_machine_without_nginx_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(web_server, "find", lambda program: None)
    with pytest.raises(web_server.NginxMissing, match="apt-get install nginx-light"):
        web_server.check()


def test_the_server_listens_on_loopback_only(tmp_path):
    web_server.prepare(tmp_path, ["127.0.0.1", *fetch.HOSTS], 8080)
    listens = re.findall(r"listen (\S+?):", (tmp_path / "nginx.conf").read_text())
    assert len(listens) == 201
    assert all(address.startswith("127.") for address in listens)

"""The reference has every public name, once."""

import importlib.util
from pathlib import Path

import raddle

FOLDER = Path(__file__).resolve().parents[2] / "docs"


def load_groups():
    spec = importlib.util.spec_from_file_location("groups", FOLDER / "reference_groups.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_stands_in_one_group():
    found = [name for names in load_groups().groups(raddle.__all__).values() for name in names]
    assert sorted(found) == sorted(name for name in raddle.__all__ if name != "__version__")


def test_a_name_without_a_group_comes_under_other():
    groups = load_groups().groups(["map", "new_name", "__version__"])
    assert groups["map"] == ["map"] and groups["other"] == ["new_name"]


def test_every_group_stands_on_one_page():
    texts = "".join(page.read_text() for page in (FOLDER / "reference").glob("*.md"))
    for group in load_groups().groups([]):
        assert texts.count(f"<!-- names: {group} -->") == 1, group

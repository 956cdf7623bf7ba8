"""Names of files: none leaves the folder, none hides, none is a device, whatever a server says."""

from __future__ import annotations

import os

import pytest
from faults import Faults

ATTACKS = [
    'attachment; filename="../../evil"',
    'attachment; filename="/etc/evil"',
    'attachment; filename="..\\\\..\\\\evil"',
    'attachment; filename="C:\\\\evil"',
    'attachment; filename=".."',
    'attachment; filename="."',
    'attachment; filename=""',
    'attachment; filename=".bashrc"',
    'attachment; filename="...hidden"',
    'attachment; filename="a/b/c"',
    'attachment; filename="evil\x01\x02"',
    'attachment; filename="evil\x7f"',
    'attachment; filename="con"',
    'attachment; filename="NUL.txt"',
    'attachment; filename="com1"',
    'attachment; filename="evil:stream"',
    'attachment; filename="evil. "',
    'attachment; filename="-rf"',
    'attachment; filename="%2e%2e%2fevil"',
    "attachment; filename*=UTF-8''..%2F..%2Fevil",
    "attachment; filename*=UTF-8''%00evil",
    "attachment; filename*=UTF-8''%2Fetc%2Fevil",
    "attachment; filename*=UTF-8''a%E2%80%AEgpj.exe",
    "attachment; filename*=nosuch''evil",
    'attachment; filename="' + "x" * 1000 + '"',
    'attachment; filename="' + "x" * 300 + '.tar.gz"',
    "attachment; filename*=UTF-8''" + "%F0%9F%98%80" * 200,
    'attachment; filename="unfinished',
    "attachment; filename",
    "\xff\xfe",
]  # fmt: skip
DEVICES = {"con", "nul", "aux", "prn", "com1", "lpt1"}

GOOD = {
    'attachment; filename="report.pdf"': "report.pdf",
    "attachment; filename=report.pdf": "report.pdf",
    'inline; FILENAME="a b.txt"; size=3': "a b.txt",
    'attachment; filename="caf\xe9.txt"': "caf\xe9.txt",
    "attachment; filename*=UTF-8''caf%C3%A9.txt": "caf\xe9.txt",
    "attachment; filename=\"plain.txt\"; filename*=UTF-8''%e2%82%ac.txt": "\u20ac.txt",
    'attachment; filename="semi;colon.txt"': "semi;colon.txt",
    'attachment; filename="quote\\"d.txt"': None,
}


def check_name(name: str) -> None:
    """Check that a name is one that any system and any reader can have in a folder."""
    assert name and name not in (".", "..")
    assert not name.startswith("."), "a file that hides"
    assert not set(name) & set("/\\:\0\n\r\x01\x02\x7f\u202e")
    assert name.partition(".")[0].lower() not in DEVICES
    assert len(os.fsencode(name)) <= 255
    assert name == name.strip() and not name.endswith(".")


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_name_of_a_server_leaves_the_folder(raddle, faults: Faults, tmp_path, attack):
    folder = tmp_path / "one" / "two" / "into"
    folder.mkdir(parents=True)
    url = faults.url("named", disposition=attack.encode("latin-1"))
    [download] = raddle.download([url], folder, retries=0)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    if download.error is not None:
        assert written == []
        return
    assert written == [download.path]
    assert download.path.parent == folder
    check_name(download.path.name)
    assert download.path.read_bytes() == b"content"


@pytest.mark.parametrize("disposition", GOOD)
def test_a_good_name_of_a_server_is_taken(raddle, faults: Faults, tmp_path, disposition):
    url = faults.url("named", disposition=disposition.encode("latin-1"))
    [download] = raddle.download([url], tmp_path)
    assert download.error is None
    expected = GOOD[disposition]
    if expected is not None:
        assert download.path.name == expected
    check_name(download.path.name.replace('"', ""))


TAILS = [
    "..%2f..%2fevil", "%2e%2e", "..", ".", "", "a/", "a%00b", "%2fetc%2fevil", "..%5cevil", "con",
    ".bashrc", "a%0ab", "a:b", "%ff%fe", "a%2fb", "x" * 400, "%F0%9F%98%80" * 100, "aux.txt", "%20",
    "~root", "$HOME", "-rf",
]  # fmt: skip


@pytest.mark.parametrize("tail", TAILS, ids=lambda tail: tail[:20])
def test_no_name_of_an_address_leaves_the_folder(raddle, faults: Faults, tmp_path, tail):
    folder = tmp_path / "one" / "into"
    folder.mkdir(parents=True)
    [download] = raddle.download([f"{faults.url('ok')}/{tail}"], folder, retries=0)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    if download.error is not None:
        assert written == []
        return
    assert written == [download.path] and download.path.parent == folder
    check_name(download.path.name)


def test_the_name_of_an_address_is_read_as_people_do(raddle, faults: Faults, tmp_path):
    url = faults.url("ok")
    urls = [f"{url}/caf%C3%A9%20menu.pdf?version=2#top", f"{url}/plain"]
    raddle.download(urls, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"caf\xe9 menu.pdf", "plain"}


def test_an_address_without_a_name_gets_one(raddle, faults: Faults, tmp_path):
    root = faults.url("ok").replace(f"{faults.token}/ok", "")
    [download] = raddle.download([root + "robots.txt/"], tmp_path, retries=0)
    assert download.error is not None or download.path.name


def test_names_can_be_given(raddle, faults: Faults, tmp_path):
    url = faults.url("named", disposition='attachment; filename="theirs"')
    raddle.download([(url, "mine.bin"), (faults.url("ok"), "second.bin")], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.bin", "second.bin"}


def test_names_can_be_given_by_a_dict(raddle, faults: Faults, tmp_path):
    raddle.download({faults.url("ok"): "mine.bin"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.bin"]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..", "", "a\0b", 7])
def test_a_given_name_that_leaves_the_folder_is_refused(raddle, faults: Faults, tmp_path, name):
    folder = tmp_path / "into"
    folder.mkdir()
    try:
        [download] = raddle.download([(faults.url("ok"), name)], folder)
    except (ValueError, TypeError):
        pass
    else:
        assert download.error is not None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert faults.requests() == []


def test_a_link_in_the_folder_is_not_followed(raddle, faults: Faults, tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (folder / "file").symlink_to(outside)
    (folder / ".file.part").symlink_to(outside)
    for overwrite in (False, True):
        raddle.download([faults.url("file")], folder, overwrite=overwrite)
        assert outside.read_text() == "mine"

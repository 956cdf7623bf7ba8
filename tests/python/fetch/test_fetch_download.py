"""download: files that are whole or not there, resumed only where the server's file is the same."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat

import pytest
from faults import Faults, header

SIZE = 10_000
WHOLE = b"".join(b"%07d\n" % n for n in range(SIZE // 8))


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def visible(folder) -> list[str]:
    return [name for name in names(folder) if not name.startswith(".")]


def test_files_are_written_into_the_folder(raddle, faults: Faults, tmp_path):
    urls = [faults.url(f"file/{name}.bin", size=size) for name, size in (("a", 8), ("b", SIZE))]
    first, second = raddle.download(urls, tmp_path)
    assert [download.error for download in (first, second)] == [None, None]
    assert names(tmp_path) == ["a.bin", "b.bin"]
    assert (tmp_path / "b.bin").read_bytes() == WHOLE
    assert first.path == tmp_path / "a.bin" and second.size == SIZE
    assert (second.url, second.status, second.resumed) == (urls[1], 200, False)
    assert second.attempts == 1 and second.elapsed >= 0
    assert "b.bin" in repr(second)


def test_a_folder_is_made(raddle, faults: Faults, tmp_path):
    [download] = raddle.download([faults.url("file")], str(tmp_path / "new" / "deeper"))
    assert download.error is None, download.error
    assert (tmp_path / "new" / "deeper" / "file").read_bytes() == WHOLE


def test_a_file_has_the_rights_that_any_new_file_has(raddle, faults: Faults, tmp_path):
    old = os.umask(0o027)
    try:
        raddle.download([faults.url("file")], tmp_path)
        (tmp_path / "usual").touch()
    finally:
        os.umask(old)
    mode = stat.S_IMODE((tmp_path / "file").stat().st_mode)
    assert mode == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_body_is_decoded_on_its_way(raddle, faults: Faults, tmp_path):
    [download] = raddle.download([faults.url("encoded", how="gzip")], tmp_path)
    assert download.error is None
    assert (tmp_path / "encoded").read_bytes() == WHOLE[:5000]


def test_an_empty_file_is_a_file(raddle, faults: Faults, tmp_path):
    [download] = raddle.download([faults.url("ok", size=0)], tmp_path)
    assert (download.error, download.size) == (None, 0)
    assert (tmp_path / "ok").read_bytes() == b""


@pytest.mark.parametrize("page, query, kind", [
    ("status", {"code": 404}, "HTTPStatusError"),
    ("status", {"code": 500}, "HTTPStatusError"),
    ("short", {}, "ConnectionFailed"),
    ("reset", {"where": "body"}, "ConnectionFailed"),
    ("chunks", {"how": "size"}, "InvalidResponse"),
    ("stalled-body", {}, "FetchTimeout"),
    ("encoded", {"how": "cut"}, "InvalidResponse"),
    ("endless-redirects", {}, "TooManyRedirects"),
])  # fmt: skip
def test_what_fails_leaves_no_file_and_costs_no_other(
    raddle, faults: Faults, tmp_path, page, query, kind
):
    urls = [faults.url(page, **query), faults.url("file/good")]
    bad, good = raddle.download(urls, tmp_path, retries=0, timeout=1)
    assert type(bad.error).__name__ == kind
    assert good.error is None and (tmp_path / "good").read_bytes() == WHOLE
    assert visible(tmp_path) == ["good"]


def test_max_bytes_bounds_a_file(raddle, faults: Faults, tmp_path):
    [download] = raddle.download([faults.url("endless-body")], tmp_path, max_bytes=100_000)
    assert isinstance(download.error, raddle.TooLarge)
    assert visible(tmp_path) == []
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 200_000


def test_a_bad_address_is_that_downloads_error(raddle, faults: Faults, tmp_path):
    bad, good = raddle.download(["no url", faults.url("file")], tmp_path)
    assert isinstance(bad.error, raddle.InvalidURL) and bad.path is None
    assert good.error is None


def test_nothing_to_download_is_nothing(raddle, tmp_path):
    assert raddle.download([], tmp_path) == []


def test_one_address_in_place_of_a_list_is_refused(raddle, tmp_path):
    with pytest.raises(TypeError, match="list"):
        raddle.download("http://127.0.0.1/", tmp_path)


def test_a_folder_that_is_a_file_is_refused(raddle, faults: Faults, tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(OSError, match="taken"):
        raddle.download([faults.url("file")], tmp_path / "taken")
    assert faults.requests() == []


def test_nothing_of_a_file_is_seen_under_its_name_before_it_is_whole(
    raddle, faults: Faults, tmp_path
):
    with raddle.ThreadPoolExecutor(1) as pool:
        running = pool.submit(raddle.download, [faults.url("file", gate="half")], tmp_path)
        faults.wait_requests(1)
        assert visible(tmp_path) == []
        faults.release("half")
        assert running.result()[0].error is None
    assert names(tmp_path) == ["file"]


# --- Files that are there already ----------------------------------------------------------------


def test_a_file_of_the_same_name_is_numbered(raddle, faults: Faults, tmp_path):
    urls = [faults.url(f"file/{n}/same.tar.gz", size=n) for n in (1, 2, 3)]
    downloads = raddle.download(urls, tmp_path, concurrency=1)
    assert len(visible(tmp_path)) == 3
    for n, download in enumerate(downloads, 1):
        assert download.path.read_bytes() == WHOLE[:n]
    assert "same.tar.gz" in visible(tmp_path)


def test_names_that_differ_in_case_only_are_two_files(raddle, faults: Faults, tmp_path):
    urls = [faults.url("file/Read.md"), faults.url("file/read.MD", size=16)]
    first, second = raddle.download(urls, tmp_path)
    assert first.path.read_bytes() == WHOLE and second.path.read_bytes() == WHOLE[:16]


def test_a_file_of_the_user_is_never_overwritten_unless_asked(raddle, faults: Faults, tmp_path):
    mine = tmp_path / "file"
    mine.write_text("mine")
    [download] = raddle.download([faults.url("file")], tmp_path)
    assert mine.read_text() == "mine"
    assert download.path != mine or download.error is not None
    [download] = raddle.download([faults.url("file")], tmp_path, overwrite=True)
    assert download.error is None
    assert mine.read_bytes() == WHOLE


def test_a_failed_overwrite_leaves_the_old_file(raddle, faults: Faults, tmp_path):
    mine = tmp_path / "short"
    mine.write_text("mine")
    [download] = raddle.download([faults.url("short")], tmp_path, overwrite=True, retries=0)
    assert download.error is not None
    assert mine.read_text() == "mine"


# --- Resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("validator", ["strong", "date"])
def test_a_download_goes_on_where_it_was_cut(raddle, faults: Faults, tmp_path, validator, how):
    # Large, because a reset takes away what the client has not read yet.
    size = 4_000_000
    url = faults.url("file", cut=1, validator=validator, how=how, size=size)
    [download] = raddle.download([url], tmp_path, retries=2)
    assert download.error is None, download.error
    assert (download.resumed, download.size) == (True, size)
    body = b"".join(b"%07d\n" % n for n in range(size // 8))
    assert (tmp_path / "file").read_bytes() == body
    first, second = faults.requests()
    assert header(first, "range") is None
    begin = int(header(second, "range").removeprefix("bytes=").removesuffix("-"))
    assert 0 < begin <= size // 2
    assert header(second, "if-range") is not None
    assert names(tmp_path) == ["file"]


def test_a_later_call_goes_on_too(raddle, faults: Faults, tmp_path):
    url = faults.url("file", cut=1)
    [failed] = raddle.download([url], tmp_path, retries=0)
    assert isinstance(failed.error, raddle.ConnectionFailed)
    assert visible(tmp_path) == []
    [download] = raddle.download([url], tmp_path, retries=0)
    assert download.error is None and download.resumed
    assert (tmp_path / "file").read_bytes() == WHOLE
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("query", [
    {"validator": "weak"},
    {"validator": "none"},
    {"validator": "changing", "changes": 1},
    {"ranges": "no"},
    {"wrong": 1},
], ids=str)  # fmt: skip
def test_what_may_have_changed_is_fetched_anew(raddle, faults: Faults, tmp_path, query):
    url = faults.url("file", cut=1, **query)
    raddle.download([url], tmp_path, retries=0)
    [download] = raddle.download([url], tmp_path, retries=1)
    assert download.error is None, download.error
    body = (tmp_path / "file").read_bytes()
    assert len(body) == SIZE
    if "changes" in query:
        assert len(set(body)) == 1, "no piece of the old file"
    else:
        assert body == WHOLE
    if "wrong" not in query:
        assert not download.resumed


def test_resuming_can_be_declined(raddle, faults: Faults, tmp_path):
    url = faults.url("file", cut=1)
    raddle.download([url], tmp_path, retries=0)
    [download] = raddle.download([url], tmp_path, resume=False)
    assert download.error is None and not download.resumed
    assert all(header(request, "range") is None for request in faults.requests())
    assert (tmp_path / "file").read_bytes() == WHOLE


def test_a_rest_of_another_address_is_not_gone_on_with(raddle, faults: Faults, tmp_path):
    raddle.download([faults.url("file/a", cut=1)], tmp_path, retries=0)
    [download] = raddle.download([faults.url("ok/a", size=13)], tmp_path)
    assert download.error is None and not download.resumed
    assert (tmp_path / "a").read_bytes() == WHOLE[:13]


def test_a_part_file_that_somebody_wrote_does_no_harm(raddle, faults: Faults, tmp_path):
    url = faults.url("file", cut=1)
    raddle.download([url], tmp_path, retries=0)
    left = list(tmp_path.iterdir())
    assert left, "something to go on with"
    for path in left:
        path.write_bytes(b"rubbish" * 5000)
    [download] = raddle.download([url], tmp_path, checksum={url: f"sha256:{digest('sha256')}"})
    assert download.error is None, download.error
    assert (tmp_path / "file").read_bytes() == WHOLE


# --- Checksums -----------------------------------------------------------------------------------


def digest(kind: str) -> str:
    return hashlib.new(kind, WHOLE).hexdigest()


@pytest.mark.parametrize("kind", ["sha256", "sha512", "sha1", "md5"])
def test_a_right_checksum_passes(raddle, faults: Faults, tmp_path, kind):
    url = faults.url("file")
    [download] = raddle.download([url], tmp_path, checksum={url: f"{kind}:{digest(kind)}"})
    assert download.error is None
    assert (tmp_path / "file").read_bytes() == WHOLE


def test_a_wrong_checksum_leaves_no_file(raddle, faults: Faults, tmp_path):
    url = faults.url("file")
    [download] = raddle.download([url], tmp_path, checksum={url: "sha256:" + "0" * 64})
    assert isinstance(download.error, raddle.FetchError)
    assert digest("sha256") in str(download.error) and "0" * 64 in str(download.error)
    assert names(tmp_path) == []


def test_a_checksum_is_of_the_whole_of_a_resumed_file(raddle, faults: Faults, tmp_path):
    url = faults.url("file", cut=1)
    given = {url: f"sha256:{digest('sha256')}"}
    raddle.download([url], tmp_path, retries=0, checksum=given)
    [download] = raddle.download([url], tmp_path, checksum=given)
    assert download.error is None and download.resumed


@pytest.mark.parametrize("text", ["sha256:xyz", "crc:00", "0" * 64, "sha256:00", "", 7])
def test_a_checksum_that_is_none_is_refused_at_the_call(raddle, faults: Faults, tmp_path, text):
    url = faults.url("file")
    with pytest.raises((ValueError, TypeError), match=r"checksum|sha256"):
        raddle.download([url], tmp_path, checksum={url: text})
    assert faults.requests() == []


def test_many_files_come_in_one_call(raddle, faults: Faults, tmp_path):
    urls = [faults.url(f"file/{n:03}", size=n * 10) for n in range(100)]
    downloads = raddle.download(urls, tmp_path)
    assert [download.url for download in downloads] == urls
    assert [path.stat().st_size for path in sorted(tmp_path.iterdir())] == list(range(0, 1000, 10))


def test_a_download_can_be_pickled(raddle, faults: Faults, tmp_path):
    good, bad = raddle.download([faults.url("file"), "no url"], tmp_path)
    for download in (good, bad):
        again = pickle.loads(pickle.dumps(download))
        assert (again.url, again.path, again.size) == (download.url, download.path, download.size)
        assert repr(again) == repr(download)


def test_a_full_disk_is_that_downloads_error(raddle, faults: Faults, tmp_path):
    import resource
    import signal

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        urls = [faults.url("file/large"), faults.url("file/small", size=100)]
        large, small = raddle.download(urls, tmp_path, retries=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert isinstance(large.error, raddle.FetchError)
    assert small.error is None
    assert visible(tmp_path) == ["small"]


# --- Folders that are open to others --------------------------------------------------------------


def left_over(raddle, url: str, folder):
    """Return the part and the note of a download that was cut."""
    raddle.download([url], folder, retries=0)
    [part] = folder.glob("*.part")
    [note] = folder.glob("*.note")
    return part, note


def test_a_hard_link_in_place_of_a_part_is_not_written_through(raddle, faults: Faults, tmp_path):
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    url = faults.url("file", cut=1)
    part, _note = left_over(raddle, url, folder)
    outside.write_bytes(WHOLE[:100])
    part.unlink()
    os.link(outside, part)
    [download] = raddle.download([url], folder)
    assert download.error is None, download.error
    assert not download.resumed or download.attempts > 1
    assert (folder / "file").read_bytes() == WHOLE
    assert outside.read_bytes() == WHOLE[:100] and part.samefile(outside)


def test_a_hard_link_in_place_of_a_note_is_not_read(raddle, faults: Faults, tmp_path):
    folder = tmp_path / "folder"
    url = faults.url("file", cut=1)
    part, note = left_over(raddle, url, folder)
    part.write_bytes(b"EVIL" * 10)
    os.link(note, tmp_path / "outside")
    [download] = raddle.download([url], folder)
    assert download.error is None, download.error
    assert (folder / "file").read_bytes() == WHOLE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("whose", ["part", "note", "both"])
def test_what_another_user_has_planted_is_left_alone(raddle, faults: Faults, tmp_path, whose):
    url = faults.url("file", cut=1)
    part, note = left_over(raddle, url, tmp_path)
    part.write_bytes(b"EVIL" * 10)
    for path in {"part": [part], "note": [note], "both": [part, note]}[whose]:
        os.chown(path, 1234, 1234)
    [download] = raddle.download([url], tmp_path)
    assert download.error is None, download.error
    assert (tmp_path / "file").read_bytes() == WHOLE
    assert (tmp_path / "file").stat().st_uid == 0
    assert whose == "note" or part.read_bytes() == b"EVIL" * 10


def test_what_a_killed_process_has_left_without_a_note_is_begun_anew(
    raddle, faults: Faults, tmp_path
):
    url = faults.url("file", cut=1)
    _part, note = left_over(raddle, url, tmp_path)
    note.unlink()
    [download] = raddle.download([url], tmp_path)
    assert download.error is None, download.error
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == WHOLE

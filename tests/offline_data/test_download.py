"""Download against a local HTTP server that misbehaves in the ways servers do."""

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from saferl.offline_data import download as module
from saferl.offline_data import load_hdf5, save_hdf5
from saferl.offline_data.download import DownloadError, download
from tests.offline_data.arrays import assert_same, toy


@dataclass
class Site:
    """What the server does; tests change it between or during requests."""

    content: bytes = b""
    cut: list[int | None] = field(default_factory=list)  # bytes after which each request is cut; the last one repeats
    ranges: bool = True
    announced: int | None = None  # a Content-Length that is not true
    shift: int = 0  # answers a range that begins elsewhere
    statuses: list[int] = field(default_factory=list)  # HTTP errors before the first answer
    content_type: str = "application/octet-stream"
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, asked = self.site, self.headers["Range"]
        site.asked.append(asked)
        tag = f'"{hashlib.sha256(site.content).hexdigest()}"'
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        same = self.headers.get("If-Range", tag) == tag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.ranges and same else 0
        if start and start >= len(site.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.content)}")
            self.end_headers()
            return
        begin = start - site.shift if start else 0
        body = site.content[begin:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Type", site.content_type)
        self.send_header("Content-Length", str(site.announced if site.announced is not None else len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {begin}-{len(site.content) - 1}/{len(site.content)}")
        self.end_headers()
        cut = (site.cut.pop(0) if len(site.cut) > 1 else site.cut[0]) if site.cut else None
        self.wfile.write(body[: site.announced][:cut])
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "PAUSE", 0.001)
    save_hdf5(toy((20_000,)), tmp_path / "original.hdf5")
    site = Site((tmp_path / "original.hdf5").read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_port}/data.hdf5"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "folder" / "data.hdf5"


def left(target: Path) -> list[str]:
    """Visible files in the target's folder."""
    return sorted(file.name for file in target.parent.iterdir() if not file.name.startswith("."))


def refusal(site: Site, target: Path) -> str:
    with pytest.raises(DownloadError) as caught:
        download(site.url, target)
    assert not target.exists()
    assert str(caught.value).startswith(site.url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_file_arrives(site, target):
    assert download(site.url, target) == target
    assert target.read_bytes() == site.content
    assert left(target) == ["data.hdf5"]
    assert_same(load_hdf5(target), toy((20_000,)))


def test_what_is_there_is_not_fetched_again(site, target):
    download(site.url, target)
    download(site.url, target)
    assert len(site.asked) == 1


def test_a_cut_connection_is_continued_where_it_broke(site, target):
    third = len(site.content) // 3
    site.cut = [third, third, None]
    download(site.url, target)
    assert target.read_bytes() == site.content
    assert site.asked == [None, f"bytes={third}-", f"bytes={2 * third}-"]


def test_a_later_call_goes_on_with_the_part_of_an_earlier_one(site, target):
    half = len(site.content) // 2
    site.cut = [half, 0]
    message = refusal(site, target)
    assert (
        f"cut after {half} of {len(site.content)} announced bytes, 5 times in a row; {half} bytes are kept" in message
    )
    assert left(target) == ["data.hdf5.part", "data.hdf5.part.json"]
    site.cut, site.asked = [], []
    download(site.url, target)
    assert site.asked == [f"bytes={half}-"]
    assert target.read_bytes() == site.content
    assert left(target) == ["data.hdf5"]


def test_a_server_that_ignores_range_sends_everything_again(site, target):
    site.ranges, site.cut = False, [1000, None]
    download(site.url, target)
    assert target.read_bytes() == site.content


def test_a_server_that_ignores_range_and_always_cuts_is_given_up(site, target):
    site.ranges, site.cut = False, [1000]
    assert "cut after 1000 of" in refusal(site, target)
    assert len(site.asked) == 1 + module.TRIES


def test_another_file_by_now_is_fetched_from_its_beginning(site, target, tmp_path):
    site.cut = [len(site.content) // 2, 0]
    refusal(site, target)
    save_hdf5(toy((19_000,)), tmp_path / "newer.hdf5")
    site.content, site.cut = (tmp_path / "newer.hdf5").read_bytes(), []
    download(site.url, target)
    assert target.read_bytes() == site.content


def test_an_answer_that_begins_elsewhere_is_not_appended(site, target):
    site.cut, site.shift = [1000, None], 10
    download(site.url, target)  # starts over, without a range
    assert site.asked == [None, "bytes=1000-", None]
    assert target.read_bytes() == site.content


def test_a_part_that_is_already_whole_is_only_checked(site, target):
    target.parent.mkdir()
    target.with_name("data.hdf5.part").write_bytes(site.content)
    download(site.url, target)
    assert target.read_bytes() == site.content


def test_a_part_that_is_longer_than_the_file_is_thrown_away(site, target):
    target.parent.mkdir()
    target.with_name("data.hdf5.part").write_bytes(site.content + b"more")
    download(site.url, target)
    assert target.read_bytes() == site.content


def test_a_length_that_is_too_large_is_no_success(site, target):
    site.announced, site.ranges = len(site.content) + 500, False
    message = refusal(site, target)
    assert f"cut after {len(site.content)} of {len(site.content) + 500} announced bytes" in message


def test_a_length_that_is_too_small_is_no_success(site, target):
    site.announced = len(site.content) - 500
    message = refusal(site, target)
    assert f"the server sent {site.announced} bytes that are no data file: truncated HDF5 file" in message
    assert left(target) == []  # the next call starts over


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/octet-stream"])
def test_an_html_page_is_no_success(site, target, content_type):
    site.content, site.content_type = b"<!doctype html><html>quota exceeded</html>", content_type
    assert "HTML page" in refusal(site, target)
    assert left(target) == []


def test_an_html_page_does_not_cost_what_has_arrived(site, target):
    content = site.content
    site.cut = [1000, 0]
    refusal(site, target)
    site.content, site.content_type, site.cut = b"<html>log in</html>", "text/html", []
    refusal(site, target)
    site.content, site.content_type, site.asked = content, "application/octet-stream", []
    download(site.url, target)
    assert site.asked == ["bytes=1000-"]
    assert target.read_bytes() == content


def test_an_http_error_is_final(site, target):
    site.statuses = [404]
    assert refusal(site, target) == f"{site.url}: HTTP 404 Not Found."
    assert len(site.asked) == 1


def test_a_busy_server_is_asked_again(site, target):
    site.statuses = [503, 429]
    download(site.url, target)
    assert target.read_bytes() == site.content


def test_a_server_that_is_not_there(target):
    url = "http://127.0.0.1:9/data.hdf5"  # the discard port: nobody listens
    with pytest.raises(DownloadError, match=f"{url}: can't be reached"):
        download(url, target)


def test_other_addresses_are_refused(target):
    with pytest.raises(DownloadError, match="not a web address; allowed: http:// or https://"):
        download("file:///etc/hostname", target)


def test_a_folder_that_can_not_be_made_is_named(site, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match="can't be written"):
        download(site.url, tmp_path / "file" / "data.hdf5")


def test_a_full_disk_is_noticed_before_the_transfer(site, target, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(DownloadError, match=f"10 bytes are free, {len(site.content)} are needed"):
        download(site.url, target)


def test_several_that_want_the_same_file_fetch_it_once(site, target):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download(site.url, target), range(4)))
    assert paths == [target] * 4
    assert len(site.asked) == 1
    assert target.read_bytes() == site.content


def test_a_damaged_note_about_the_part_is_ignored(site, target):
    target.parent.mkdir()
    target.with_name("data.hdf5.part").write_bytes(site.content[:100])
    for note in ("", "[]", json.dumps({"tag": 1})):
        target.with_name("data.hdf5.part.json").write_text(note)
        target.unlink(missing_ok=True)
        download(site.url, target)
        assert target.read_bytes() == site.content

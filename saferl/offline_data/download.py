"""Download of a data file: resumed after a cut, checked, and under its name only when it is whole."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from saferl.offline_data.dataset import DatasetError
from saferl.offline_data.hdf5 import check_is_hdf5

TRIES = 5  # in a row that bring nothing new
PAUSE = 1.0  # s before the second try, doubled before each further one
TIMEOUT = 30.0  # s without a byte
_CHUNK = 1 << 18  # bytes read at a time
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP answers that may be different in a second


class DownloadError(DatasetError):
    """A file could not be had; one line with the address and the reason."""


class _CutError(Exception):
    """One try failed in a way that another one may mend."""


@dataclass(frozen=True)
class _Origin:
    """What the server said of the file whose beginning lies in the ``.part`` file."""

    tag: str | None = None  # ETag, if it is a strong one
    size: int | None = None  # bytes of the whole file


def download(url: str, target: str | Path) -> Path:
    """Fetch an HDF5 file; a rich progress bar runs on stderr where that is a terminal.

    What has arrived stays in ``<target>.part``: a later call goes on from there if the server allows it (HTTP Range)
    and still has the same file (size and ETag). ``target`` appears in one step, when the size is as announced and the
    content opens as HDF5. Processes that want the same file wait for each other.

    Args:
        url: http or https.
        target: the file to make; nothing is fetched if it exists.

    Returns: ``target``.
    Raises: DownloadError if it can't be reached, keeps being cut, is no HDF5 file, or can't be written.
    """
    target = Path(target)
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: not a web address; allowed: http:// or https://.")
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.with_name(f".{target.name}.lock")):
            if target.exists():
                return target
            _fetch(url, part)
            _check_content(url, part)
            _origin_file(part).unlink(missing_ok=True)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
    except OSError as error:
        raise DownloadError(f"{target}: can't be written ({error.strerror or error}).") from None
    return target


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is in here with the same file."""
    import fcntl  # not on Windows, where everything but the download works

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(url: str, part: Path) -> None:
    """Try until the part file is whole, or until some tries in a row brought nothing."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), SpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(Path(urlsplit(url).path).name, total=None)
        fruitless = 0
        while True:
            before = _size(part)
            try:
                _try(url, part, progress, task)
                return
            except _CutError as cut:
                fruitless = 0 if _size(part) > before else fruitless + 1
                if fruitless == TRIES:
                    kept = f"; {_size(part)} bytes are kept, the same command goes on from there" if _size(part) else ""
                    raise DownloadError(f"{url}: {cut}, {TRIES} times in a row{kept}.") from None
            time.sleep(PAUSE * 2**fruitless)


def _try(url: str, part: Path, progress: Progress, task: TaskID) -> None:
    """One request for what is missing; returns if the part file is then whole."""
    have, known = _size(part), _read_origin(part)
    headers = {"User-Agent": "saferl", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.tag:
            headers["If-Range"] = known.tag  # another file by now: the server sends all of it
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:
            if _range_total(error.headers.get("Content-Range")) == have:
                return  # nothing is missing: the last call ended just before it could look
            _forget(part)
            raise _CutError("it refuses to go on from where it was cut") from None
        if error.code in _PASSING:
            raise _CutError(f"HTTP {error.code} {error.reason}") from None
        raise DownloadError(f"{url}: HTTP {error.code} {error.reason}.") from None
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        if have == 0:
            raise DownloadError(f"{url}: can't be reached ({reason}).") from None
        raise _CutError(f"can't be reached ({reason})") from None
    with response:
        if response.headers.get_content_type() == "text/html":  # a log-in or error page; what has arrived stays
            raise DownloadError(f"{url}: the server sent an HTML page instead of a data file.")
        start, total = _extent(response, have, known, part)
        tag = response.headers.get("ETag", "")
        _origin_file(part).write_text(json.dumps(asdict(_Origin(tag if tag.startswith('"') else None, total))))
        _check_room(part, start, total)
        progress.update(task, completed=start, total=total)
        _copy(response, part, start, total, lambda count: progress.advance(task, count))


def _extent(response: Any, have: int, known: _Origin, part: Path) -> tuple[int, int | None]:
    """First byte that the answer brings and size of the whole file; None if the server does not say."""
    length = response.headers.get("Content-Length", "")
    if response.status != 206:  # all of it, asked for or not
        return 0, int(length) if length.isdigit() else None
    described = response.headers.get("Content-Range", "")
    total = _range_total(described)
    if not described.startswith(f"bytes {have}-") or (None not in (total, known.size) and total != known.size):
        _forget(part)
        raise _CutError(f"it went on with other bytes than asked for ({described or 'no Content-Range'})")
    return have, total


def _copy(response: Any, part: Path, start: int, total: int | None, advance: Any) -> None:
    """Append the answer to the part file and compare its size with what was announced."""
    with part.open("ab") as file:
        file.truncate(start)
        file.seek(start)
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (HTTPException, OSError) as error:
                raise _CutError(f"cut after {file.tell()} of {total or 'unknown'} bytes ({error})") from None
            if not chunk:
                break
            file.write(chunk)
            advance(len(chunk))
        size = file.tell()
    if total is not None and size < total:
        raise _CutError(f"cut after {size} of {total} announced bytes")


def _check_content(url: str, part: Path) -> None:
    """Forget a part file that is complete but no HDF5 file."""
    try:
        check_is_hdf5(part)
    except DatasetError as error:
        what = str(error).removeprefix(f"{part}: ").split("; ")[0].rstrip(".")
        size = _size(part)
        _forget(part)
        raise DownloadError(f"{url}: the server sent {size} bytes that are no data file: {what}.") from None


def _check_room(part: Path, start: int, total: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise DownloadError(f"{part.parent}: {free} bytes are free, {total - start} are needed.")


def _range_total(described: str | None) -> int | None:
    """The N of "bytes a-b/N" or "bytes */N"."""
    total = (described or "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _origin_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_origin(part: Path) -> _Origin:
    try:
        saved = json.loads(_origin_file(part).read_text())
        return _Origin(saved["tag"], saved["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return _Origin()


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _origin_file(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

"""Bytes of the network: whole files into files, parts into memory; a cut line is taken up again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from huggingface_hub import get_session
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
from tqdm import tqdm

from llava.download.trouble import Refused, Unreachable

TIMEOUT = 30.0  # seconds without a byte
TRIES = 4  # in a row that bring nothing
WAIT = 1.0  # seconds before the second try; twice as long before each that follows
PARTIAL = ".partial"  # ends the name of a file that is not whole yet
_CHUNK = 2**20
_PASSING = (408, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Address:
    """A file of the network.

    Attributes:
        url: where it is.
        headers: to send along, for example a login.
        wait: WAIT, or less for tests.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = WAIT


def append(address: Address, path: Path, size: int | None) -> None:
    """Fetches what a file lacks at its end.

    Args:
        address: of the whole file.
        path: the beginning, or nothing yet.
        size: of the whole file in bytes; None where nobody says.

    Raises:
        OSError: it cannot be written.
        Refused, Unreachable: the server does not give it, or does not answer.
    """

    def have() -> int:
        return path.stat().st_size if path.is_file() else 0

    if size is not None and have() > size:
        path.unlink()  # the beginning of something else

    def once() -> None:
        if size is None or have() < size or not have():
            _append_once(address, path, size)
        if size is not None and have() < size:
            raise ConnectionError(f"the line was cut at {have():,} of {size:,} bytes")

    _patiently(once, have, address.wait)


def read_part(address: Address, start: int, stop: int) -> bytes:
    """Bytes start to stop (without it) of a file.

    Raises:
        Refused, Unreachable: as append; Refused too where the server sends only whole files.
    """
    wanted = {"Range": f"bytes={start}-{stop - 1}"}

    def once() -> bytes:
        response = get_session().get(
            address.url, headers=_headers(address, wanted), timeout=TIMEOUT
        )
        _check(response.status_code, address.url)
        begins, _ = _content_range(response.headers)
        if response.status_code != 206 or (begins, len(response.content)) != (start, stop - start):
            raise Refused(f"{address.url} does not give parts of it: fetch it whole by hand")
        return response.content

    return _patiently(once, lambda: 0, address.wait)


def read_size(address: Address) -> int | None:
    """How long a file is, in bytes; None where its server does not say.

    Raises:
        Refused, Unreachable: as append.
    """

    def once() -> int | None:
        headers = _headers(address, {"Range": "bytes=0-0"})
        with get_session().stream("GET", address.url, headers=headers, timeout=TIMEOUT) as response:
            _, size = _content_range(response.headers)
            if response.status_code == 416 and size == 0:  # it has no first byte
                return 0
            _check(response.status_code, address.url)
            if response.status_code != 200:
                return size
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdigit() else None

    return _patiently(once, lambda: 0, address.wait)


def _append_once(address: Address, path: Path, size: int | None) -> None:
    with path.open("ab") as file:
        start = file.tell()
        wanted = {"Range": f"bytes={start}-"} if start else {}
        with get_session().stream(
            "GET", address.url, headers=_headers(address, wanted), timeout=TIMEOUT
        ) as response:
            if response.status_code == 416 and start:  # nothing is there behind what we have
                file.truncate(0)
                raise ConnectionError(f"{address.url} has changed")
            _check(response.status_code, address.url)
            if response.status_code == 206 and _content_range(response.headers)[0] != start:
                file.truncate(0)
                raise ConnectionError(f"{address.url} gave another part than was asked for")
            if start and response.status_code != 206:  # the server sends the whole again
                file.truncate(0)
                start = 0
            _write(file, response.iter_bytes, path.name, start, size)


def _write(file: BinaryIO, chunks: Callable, name: str, start: int, size: int | None) -> None:
    # Small files are done before a bar would show.
    name = name.removesuffix(PARTIAL)
    with tqdm(
        total=size, initial=start, desc=name, unit="B", unit_scale=True, delay=1, leave=False
    ) as bar:
        for chunk in chunks(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _headers(address: Address, more: Mapping[str, str]) -> dict[str, str]:
    # Packed on the way, neither lengths nor parts would be those of the file.
    return {**address.headers, "Accept-Encoding": "identity", **more}


def _content_range(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Where the part that comes begins, and how long the whole is, as far as that is said."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    start, size = match.groups() if match else (None, None)
    return start and int(start), size and int(size)


def _check(status: int, url: str) -> None:
    """Refuses an error of the server; one that may pass is raised as a cut line."""
    if status in _PASSING:
        raise ConnectionError(f"{url} answered {status}")
    if status in (401, 403):
        raise Refused(f"{url} answered {status}: it asks for a login or a permission")
    if status >= 400:
        gone = ": it is not there any more" if status in (404, 410) else ""
        raise Refused(f"{url} answered {status}{gone}")


def _patiently(once: Callable[[], Result], progress: Callable[[], int], wait: float) -> Result:
    """Tries again after a cut line, until TRIES in a row have brought nothing new."""
    left, most, pause = TRIES, progress(), wait
    while True:
        try:
            return once()
        except OfflineModeIsEnabled:
            raise
        except (HTTPError, ConnectionError) as error:
            cut = error
        left, pause = (TRIES, wait) if progress() > most else (left - 1, pause)
        most = max(most, progress())
        if not left:
            raise Unreachable(str(cut) or type(cut).__name__) from cut
        time.sleep(pause)
        pause *= 2

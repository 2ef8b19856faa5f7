"""Fetches whole files into files and parts into memory, and goes on where a connection was cut.

This is our own code. huggingface_hub's http_get loses up to 10 MB at each cut, does not check where
a part begins or how large a file of unknown size becomes, and sleeps as long as a server says.
remotezip makes a request for each member and does not retry; fsspec needs aiohttp.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from llava.download.errors import Refused, need_room
from llava.download.line import Address, Answer, Changed, request, retry

PARTIAL = ".partial"  # ending of the name of a file that is not whole yet
EDITION = ".edition"  # ending of the name of a note beside it that says which edition it is part of
AHEAD = 2**16  # bytes of an archive that are read at once where nothing better is known
_RUN = 2**24  # bytes of neighbouring members of an archive that are fetched at once, at most
_LONGEST_READ = 2**26  # bytes; the list of a zip with half a million members


def append(address: Address, path: Path, size: int | None, is_hashed: bool = False) -> bool:
    """Fetches what a file lacks at its end; what came before a connection was cut is kept.

    Args:
        address: of the whole file.
        path: holds the beginning of the file, or does not exist yet.
        size: of the whole file in bytes; None where only the server knows it.
        is_hashed: whether a hash would reveal parts of two editions; else a note beside the file
            says of which edition it is.

    Returns:
        Whether the whole file came with one answer.

    Raises:
        OSError: the file cannot be written.
        Refused, Unreachable: the server does not send it, sends more than it should, or does not
            answer.
        UserError: the disk has no room for it.
    """
    note = None if is_hashed else path.with_name(path.name + EDITION)
    if size is not None and size_of(path) > size:
        path.unlink()  # it is the beginning of another file
    answers = int(size_of(path) > 0)

    def once() -> None:
        nonlocal answers
        answers += 1
        if size is None or size_of(path) < size or not size_of(path):
            _append_once(address, path, size, note, bar)

    # Small files are done before a bar would show.
    name = path.name.removesuffix(PARTIAL)
    with tqdm(desc=name, unit="B", unit_scale=True, delay=1, leave=False) as bar:
        retry(once, address.network, lambda: size_of(path))
    if note is not None:
        note.unlink(missing_ok=True)
    return answers == 1


def size_of(path: Path) -> int:
    """Returns the size of a file in bytes; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def read_bytes(address: Address, most: int, start: int | None = None) -> bytes:
    """Returns a small file, or a part of a file.

    Args:
        address: of the file.
        most: bytes; the size of a part, and the largest size of a file that is taken.
        start: of the part; None requests the whole file.

    Raises:
        Refused, Unreachable: as append; Refused too where the server sends only whole files.
    """
    content = bytearray()

    def once() -> None:
        if start is None:  # a file is requested from its beginning again, a part is continued
            content.clear()
        at = None if start is None else start + len(content)
        with request(address, at, None if start is None else start + most) as answer:
            if start is not None and answer.status == 200:
                raise Refused(f"{address.url} does not give parts of it: fetch it whole by hand")
            if answer.status != (200 if start is None else 206) or answer.start != (at or 0):
                raise ConnectionError(
                    f"{address.url} answered {answer.status}, or with another part than asked for"
                )
            for piece in answer.pieces:
                content.extend(piece)
                if len(content) > most:
                    raise _too_much(address, most)
        if start is not None and len(content) < most:
            raise ConnectionError(f"{address.url} gave less than was asked for")

    retry(once, address.network, lambda: len(content))
    return bytes(content)


def read_size(address: Address) -> int | None:
    """Returns the size of a file in bytes; None where its server does not say.

    Raises:
        Refused, Unreachable: as append.
    """

    def once() -> int | None:
        with request(address, 0, 1) as answer:
            if answer.status == 416 and answer.size != 0:  # only an empty file has no first byte
                raise Refused(f"{address.url} answered 416")
            return answer.size

    return retry(once, address.network)


class RemoteFile(io.RawIOBase):
    """A file of the network, of which only those parts are fetched that are read."""

    def __init__(self, address: Address) -> None:
        size = read_size(address)
        if size is None:
            raise Refused(f"{address.url} does not say how long it is")
        self._address, self._size, self._at = address, size, 0
        self._start, self._held = 0, b""
        self._runs: list[tuple[int, int]] = []

    def expect(self, spans: Iterable[tuple[int, int]]) -> None:
        """Declares the parts (start, stop) that are read next: neighbours are fetched together.

        Args:
            spans: in rising order.
        """
        self._runs = []
        for start, stop in spans:
            if self._runs and start - self._runs[-1][1] <= AHEAD:
                start = self._runs.pop()[0]
            self._runs.append((start, stop))

    def readable(self) -> bool:
        """Returns that it can be read."""
        return True

    def seekable(self) -> bool:
        """Returns that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Returns the place that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place, as in any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("it leads to a place before its beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Reads bytes, not more at once than an honest archive asks for."""
        if size > _LONGEST_READ:
            raise ValueError(f"it says that {size:,} bytes of it belong together")
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer from what was fetched, or from the network; returns the count."""
        wanted = max(0, min(len(buffer), self._size - self._at))
        if wanted and not self._start <= self._at <= self._start + len(self._held) - wanted:
            self._fetch(wanted)
        place = self._at - self._start
        buffer[:wanted] = self._held[place : place + wanted]
        self._at += wanted
        return wanted

    def _fetch(self, wanted: int) -> None:
        """Fetches what is wanted at this place, and what is expected behind it.

        Near the end it is all that is left, because a zip has its list there.
        """
        until = next((stop for start, stop in self._runs if start <= self._at < stop), 0)
        self._start = max(0, min(self._at, self._size - AHEAD))
        stop = max(self._at + wanted, self._start + AHEAD, min(until, self._at + _RUN))
        self._held = read_bytes(self._address, min(stop, self._size) - self._start, self._start)


def _append_once(
    address: Address, path: Path, size: int | None, note: Path | None, bar: tqdm
) -> None:
    with path.open("ab") as file:
        start = file.tell()
        with request(address, start or None) as answer:
            _check_answer(answer, address.url, size)
            # A part without a note is taken for one of this edition.
            is_other = (
                start
                and note is not None
                and note.is_file()
                and note.read_text("utf-8", errors="replace") != answer.edition
            )
            if answer.status == 416 and answer.size == start and not is_other:
                return  # all of it is here
            if start and answer.status == 200:  # the server sends the whole again
                _empty(file)
                start = 0
            elif is_other or answer.start != start:
                _empty(file)
                raise Changed(f"{address.url} has changed, or gave another part than was asked for")
            if note is not None and not start:
                note.write_text(answer.edition, "utf-8", errors="replace")
            whole = answer.size if size is None else size
            need_room(path.name.removesuffix(PARTIAL), path.parent, (whole or 0) - start)
            bar.total, bar.n = whole, start
            _write(file, answer, address, whole, bar)


def _check_answer(answer: Answer, url: str, size: int | None) -> None:
    """Refuses an answer that cannot be the file, before the part on the disk is touched."""
    if answer.is_page and answer.status != 416:  # which says how long the file is, in any dress
        raise Refused(
            f"{url} gives a web page in place of the file: look at it with a browser, since a "
            "login or a proxy may stand between"
        )
    if size is not None and answer.size not in (None, size):
        raise ConnectionError(f"{url} has {answer.size:,} bytes instead of {size:,}")
    if size is None and answer.size is None and not answer.has_end:
        raise Refused(f"{url} does not say how long it is, so that a cut line would look whole")


def _write(file: BinaryIO, answer: Answer, address: Address, whole: int | None, bar: tqdm) -> None:
    most = address.network.most_unsaid if whole is None else whole
    for piece in answer.pieces:
        if file.tell() + len(piece) > most:
            _empty(file)
            raise _too_much(address, most)
        file.write(piece)
        bar.update(len(piece))
    if whole is not None and file.tell() < whole:
        raise ConnectionError(f"the line was cut at {file.tell():,} of {whole:,} bytes")


def _empty(file: BinaryIO) -> None:
    file.truncate(0)
    file.seek(0)


def _too_much(address: Address, most: int) -> Refused:
    return Refused(f"{address.url} sends more than the {most:,} bytes that it should")

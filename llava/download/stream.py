"""Bytes of the network: whole files into files, parts into memory; a cut line is taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from llava.download.errors import Refused, need_room
from llava.download.line import Address, Answer, Changed, ask, patiently

PARTIAL = ".partial"  # ends the name of a file that is not whole yet
EDITION = ".edition"  # ends the name of a note beside it: which edition it is half of


def append(address: Address, path: Path, size: int | None, is_hashed: bool = False) -> bool:
    """Fetches what a file lacks at its end; whatever a cut line has brought is kept.

    Args:
        address: of the whole file.
        path: the beginning, or nothing yet.
        size: of the whole file in bytes; None where nobody says before it comes.
        is_hashed: whether halves of two editions would be found out by a hash; else a note beside
            the beginning says which edition it is of.

    Returns:
        Whether one answer brought all of it.

    Raises:
        OSError: it cannot be written.
        Refused, Unreachable: the server does not give it, gives more than it should, or does not
            answer.
        UserError: it does not fit on the disk.
    """

    def have() -> int:
        return path.stat().st_size if path.is_file() else 0

    def once() -> None:
        nonlocal answers
        answers += 1
        if size is None or have() < size or not have():
            _append_once(address, path, size, note, bar)

    note = None if is_hashed else path.with_name(path.name + EDITION)
    if size is not None and have() > size:
        path.unlink()  # the beginning of something else
    answers = bool(have())
    # Small files are done before a bar would show.
    name = path.name.removesuffix(PARTIAL)
    with tqdm(desc=name, unit="B", unit_scale=True, delay=1, leave=False) as bar:
        patiently(once, address.network, have)
    if note is not None:
        note.unlink(missing_ok=True)
    return answers == 1


def read_all(address: Address, most: int) -> bytes:
    """Returns a small file.

    Args:
        address: of the file.
        most: bytes; a larger one is refused.

    Raises:
        Refused, Unreachable: as append.
    """

    def once() -> bytes:
        with ask(address) as answer:
            if answer.status != 200:
                raise ConnectionError(f"{address.url} answered {answer.status}")
            content = bytearray()
            _collect(answer, content, most, address.url)
        return bytes(content)

    return patiently(once, address.network)


def read_part(address: Address, start: int, stop: int) -> bytes:
    """Bytes start to stop (without it) of a file; whatever a cut line has brought is kept.

    Raises:
        Refused, Unreachable: as append; Refused too where the server sends only whole files.
    """
    part = bytearray()

    def once() -> None:
        at = start + len(part)
        with ask(address, at, stop) as answer:
            if answer.status == 200:
                raise Refused(f"{address.url} does not give parts of it: fetch it whole by hand")
            if answer.status != 206 or answer.start != at:
                raise ConnectionError(f"{address.url} gave another part than was asked for")
            _collect(answer, part, stop - start, address.url)
        if len(part) < stop - start:
            raise ConnectionError(f"{address.url} gave less than was asked for")

    patiently(once, address.network, lambda: len(part))
    return bytes(part)


def read_size(address: Address) -> int | None:
    """How long a file is, in bytes; None where its server does not say.

    Raises:
        Refused, Unreachable: as append.
    """

    def once() -> int | None:
        with ask(address, 0, 1) as answer:
            if answer.status == 416 and answer.size != 0:  # only an empty file has no first byte
                raise Refused(f"{address.url} answered 416")
            return answer.size

    return patiently(once, address.network)


def _collect(answer: Answer, content: bytearray, most: int, url: str) -> None:
    for piece in answer.pieces:
        content += piece
        if len(content) > most:
            raise Refused(f"{url} sends more than the {most:,} bytes that it should")


def _append_once(
    address: Address, path: Path, size: int | None, note: Path | None, bar: tqdm
) -> None:
    with path.open("ab") as file:
        start = file.tell()
        with ask(address, start or None) as answer:
            _check_answer(answer, address.url, size)
            is_other = start and note is not None and _is_of_other(note, answer.edition)
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
    """Refuses what cannot be the file, before what is there is touched."""
    if answer.is_page and answer.status != 416:  # which says how long the file is, in any dress
        raise Refused(
            f"{url} gives a web page in place of the file: look at it with a browser, since a "
            "login or a proxy may stand between"
        )
    if size is not None and answer.size not in (None, size):
        raise ConnectionError(f"{url} has {answer.size:,} bytes instead of {size:,}")
    if size is None and answer.size is None and not answer.has_end:
        raise Refused(f"{url} does not say how long it is, so that a cut line would look whole")


def _is_of_other(note: Path, edition: str) -> bool:
    """Tells whether a half is of another edition; one without a note is taken for this one's."""
    return note.is_file() and note.read_text("utf-8", errors="replace") != edition


def _write(file: BinaryIO, answer: Answer, address: Address, whole: int | None, bar: tqdm) -> None:
    most = address.network.most_unsaid if whole is None else whole
    for piece in answer.pieces:
        if file.tell() + len(piece) > most:
            _empty(file)
            raise Refused(f"{address.url} sends more than the {most:,} bytes that it should")
        file.write(piece)
        bar.update(len(piece))
    if whole is not None and file.tell() < whole:
        raise ConnectionError(f"the line was cut at {file.tell():,} of {whole:,} bytes")


def _empty(file: BinaryIO) -> None:
    file.truncate(0)
    file.seek(0)

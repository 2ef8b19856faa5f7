"""Members of archives, put where they belong: only those that are wanted, and nowhere else."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm import tqdm

from llava.download.stream import PARTIAL, Address, read_part, read_size
from llava.download.trouble import Refused, need_room, told
from llava.errors import UserError

_AHEAD = 2**16  # bytes read at once where nothing better is known
_RUN = 2**24  # at most so many bytes of neighbouring members are fetched at once
_CHUNK = 2**20
_DAMAGED = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    tarfile.TarError,
    EOFError,
    RuntimeError,  # it is encrypted, or packed in a way that zipfile does not know
)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its path in the archive.
        size: bytes when unpacked.
        crc: checksum of its contents; None where the archive has none.
        start: where it begins in the archive.
        stop: where the next one begins.
        is_file: False for links, folders and devices.
        open: gives its contents.
    """

    name: str
    size: int
    crc: int | None
    start: int
    stop: int
    is_file: bool
    open: Callable[[], BinaryIO]


class RemoteFile(io.RawIOBase):
    """A file of the network that is read where it is asked for, without fetching the rest."""

    def __init__(self, address: Address) -> None:
        size = read_size(address)
        if size is None:
            raise Refused(f"{address.url} does not say how long it is")
        self._address, self._size, self._at = address, size, 0
        self._start, self._held = 0, b""
        self.hold(size - _AHEAD, size)

    def hold(self, start: int, stop: int) -> None:
        """Fetches a part, so that reads in it cost nothing."""
        start, stop = max(0, start), min(stop, self._size)
        self._held = read_part(self._address, start, stop) if start < stop else b""
        self._start = start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        if wanted and not self._start <= self._at <= self._start + len(self._held) - wanted:
            self.hold(self._at, self._at + max(wanted, _AHEAD))
        place = self._at - self._start
        buffer[:wanted] = self._held[place : place + wanted]
        self._at += wanted
        return wanted


@contextmanager
def remote_members(address: Address) -> Iterator[tuple[list[Member], Callable[[int, int], None]]]:
    """The members of a zip of the network, and what to call before neighbours are opened."""
    with RemoteFile(address) as file, _zip(file, address.url) as archive:
        yield _zip_members(archive), file.hold


@contextmanager
def local_members(path: Path) -> Iterator[tuple[list[Member], Callable[[int, int], None]]]:
    """The same of a zip or tar that is here."""
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            yield _tar_members(archive, path), lambda start, stop: None
    else:
        with path.open("rb") as file, _zip(file, str(path)) as archive:
            yield _zip_members(archive), lambda start, stop: None


def extract(
    members: Mapping[PurePosixPath, Member],
    folder: Path,
    what: str,
    hold: Callable[[int, int], None],
) -> int:
    """Unpacks members; those that are there and right are left alone.

    Each appears whole or not at all, so that the same call goes on where one was stopped.

    Args:
        members: by the path, below the folder, where each goes.
        folder: made if it is not there.
        what: the archive, for messages.
        hold: of remote_members or local_members.

    Returns:
        How many were unpacked.

    Raises:
        UserError: a path that leads elsewhere, a damaged archive, no room, or no way to it.
    """
    with told(what, folder):
        for path, member in members.items():
            _refuse_tricks(path, member, what)
        bar = tqdm(members.items(), f"checking {what}", unit="file", delay=1, leave=False)
        lacking = {p: m for p, m in bar if not _is_there(folder / p, m)}
        need_room(what, folder, sum(member.size for member in lacking.values()))
        bar = tqdm(total=len(lacking), desc=what, unit="file", disable=not lacking)
        with bar:
            for run in _runs(sorted(lacking.items(), key=lambda one: one[1].start)):
                hold(run[0][1].start, run[-1][1].stop)
                for path, member in run:
                    _write(member, folder / path, what)
                    bar.update()
    return len(lacking)


def _zip(file: BinaryIO, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise UserError(f"{name} is no zip, or cut short ({error}): fetch it again") from error


def _zip_members(archive: zipfile.ZipFile) -> list[Member]:
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    stops = [info.header_offset for info in infos[1:]] + [archive.start_dir]
    return [
        Member(
            info.filename,
            info.file_size,
            info.CRC,
            info.header_offset,
            stop,
            is_file=not info.is_dir()
            and stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG),
            open=lambda info=info: archive.open(info),
        )
        for info, stop in zip(infos, stops)
    ]


def _tar_members(archive: tarfile.TarFile, path: Path) -> list[Member]:
    try:
        infos = list(tqdm(archive, f"reading {path.name}", unit="file", delay=1, leave=False))
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged or cut short ({error}): fetch it again") from error
    return [
        Member(
            info.name,
            info.size,
            None,
            info.offset,
            info.offset_data + info.size,
            is_file=info.isreg(),
            open=lambda info=info: archive.extractfile(info),
        )
        for info in infos
    ]


def _refuse_tricks(path: PurePosixPath, member: Member, what: str) -> None:
    """Refuses what would be written elsewhere than below its folder, or is no plain file."""
    text = str(path)
    leads_away = path.is_absolute() or ".." in path.parts or "\\" in text or ":" in text
    if leads_away or "\0" in text or not path.parts or not member.is_file:
        raise UserError(
            f"{what} has a member {member.name!r} that would not be a file in its folder: nothing "
            "was unpacked, for this archive is not what it should be"
        )


def _is_there(path: Path, member: Member) -> bool:
    if not path.is_file() or path.stat().st_size != member.size:
        return False
    return member.crc is None or zlib.crc32(path.read_bytes()) == member.crc


def _runs(members: list[tuple[PurePosixPath, Member]]) -> Iterator[list]:
    """Neighbours in the archive, as many together as one request may bring."""
    run: list[tuple[PurePosixPath, Member]] = []
    for path, member in members:
        gap = member.start - run[-1][1].stop if run else 0
        if run and (gap > _AHEAD or member.stop - run[0][1].start > _RUN):
            yield run
            run = []
        run.append((path, member))
    if run:
        yield run


def _write(member: Member, path: Path, what: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this process alone: another may be unpacking the same.
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with member.open() as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
        os.replace(partial, path)
    except _DAMAGED as error:
        raise UserError(f"{member.name} in {what} is damaged ({error}): fetch it again") from error
    finally:
        partial.unlink(missing_ok=True)  # half a member cannot be gone on with

"""Zips: here, or read where they are on the network without fetching the rest."""

from __future__ import annotations

import io
import stat
import zipfile
from typing import BinaryIO

from llava.download.errors import Refused
from llava.download.line import Address
from llava.download.members import Member, refuse_bomb
from llava.download.stream import read_part, read_size

AHEAD = 2**16  # bytes read at once where nothing better is known
RUN = 2**24  # at most so many bytes of neighbouring members are fetched at once
_LONGEST_READ = 2**26  # bytes; the list of a zip with half a million members


class RemoteFile(io.RawIOBase):
    """A file of the network that is read where it is asked for, without fetching the rest."""

    def __init__(self, address: Address) -> None:
        size = read_size(address)
        if size is None:
            raise Refused(f"{address.url} does not say how long it is")
        self._address, self._size, self._at = address, size, 0
        self._fetch(size - AHEAD, size)
        self._until = 0

    def hold(self, start: int, stop: int) -> None:
        """Fetches a part, or the beginning of a long one, so that reads in it cost nothing."""
        self._fetch(start, min(stop, start + RUN))
        self._until = stop

    def _fetch(self, start: int, stop: int) -> None:
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
        if base + offset < 0:
            raise ValueError("it leads to a place before its beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        if size > _LONGEST_READ:
            raise ValueError(f"it says that {size:,} bytes of it belong together")
        return super().read(size)

    def readinto(self, buffer: memoryview) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        if wanted and not self._start <= self._at <= self._start + len(self._held) - wanted:
            expected = min(self._until - self._at, RUN)
            self._fetch(self._at, self._at + max(wanted, AHEAD, expected))
        place = self._at - self._start
        buffer[:wanted] = self._held[place : place + wanted]
        self._at += wanted
        return wanted


def zip_members(archive: zipfile.ZipFile, file: BinaryIO, what: str) -> list[Member]:
    """Returns the members of a zip.

    Args:
        archive: the zip.
        file: what it is read from.
        what: its name, for messages.

    Raises:
        UserError: it unpacks to far more than it should.
    """
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    packed = file.seek(0, io.SEEK_END)
    refuse_bomb(what, sum(info.file_size for info in infos), len(infos), packed)
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

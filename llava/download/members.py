"""Reads which files are in an archive, a zip or a tar, and checks what it says of itself.

The readers are Python's. That of tars is made stricter here, because it takes the first damaged
header for the end of the archive, follows a negative size back for ever, and reads a name of any
length into memory.
"""

from __future__ import annotations

import errno
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import IO, BinaryIO

from tqdm import tqdm

from llava.download.errors import reason
from llava.errors import UserError

MOST_MEMBERS = 500_000  # of an archive; GQA's has 148,854
_USUAL = 2**30  # bytes that any archive may unpack to, and beyond that
_TIMES = 100  # times its own size; pictures hardly shrink
_CHUNK = 2**20
_LONGEST_HEADER = 2**16  # bytes of a name in a tar, or of what stands in for one
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# What the readers of archives raise where bytes are not what they should be.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    MemoryError,
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
        is_file: False for links, folders, devices and files with holes.
        open: gives its contents.
    """

    name: str
    size: int
    crc: int | None
    start: int
    stop: int
    is_file: bool
    open: Callable[[], IO[bytes]]


@contextmanager
def archive_errors(what: str) -> Iterator[None]:
    """Turns errors about the bytes of an archive into a UserError; ``what`` names it."""
    try:
        yield
    except (*_DAMAGED, OSError) as error:
        # Errors of gzip and bz2 are OSErrors without a number, seeks to nowhere have this one.
        is_of_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        if is_of_system or isinstance(error, ConnectionError):
            raise
        raise UserError(
            f"{what} is no archive, damaged or cut short ({reason(error)}): fetch it again"
        ) from error


def archive_members(file: BinaryIO, what: str) -> list[Member]:
    """Returns the members of a tar or zip.

    Args:
        file: the archive; it must stay open as long as members are read.
        what: its name, for messages.

    Raises:
        UserError: it is damaged, or unpacks to far more than it should.
    """
    with archive_errors(what):
        try:
            archive = tarfile.open(fileobj=file, tarinfo=_StrictInfo)
        except tarfile.ReadError:
            if not zipfile.is_zipfile(file):
                raise
            return zip_members(file, what)
        return _tar_members(archive, what, os.fstat(file.fileno()).st_size)


def zip_members(file: BinaryIO | RawIOBase, what: str) -> list[Member]:
    """Returns the members of a zip; see archive_members."""
    with archive_errors(what):
        archive = zipfile.ZipFile(file)
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        packed = file.seek(0, io.SEEK_END)
        _refuse_bomb(what, sum(info.file_size for info in infos), len(infos), packed)
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
            open=partial(archive.open, info),
        )
        for info, stop in zip(infos, stops)
    ]


def _tar_members(archive: tarfile.TarFile, what: str, packed: int) -> list[Member]:
    """Returns the members of a tar, which is read to its very end.

    A checksum stands there if it is compressed, and a tar that was cut between two members lacks
    the zeros that end it.
    """
    members = []
    for info in tqdm(archive, f"reading {Path(what).name}", unit="file", delay=1, leave=False):
        member = Member(
            info.name,
            info.size,
            None,
            info.offset,
            info.offset_data + info.size,
            is_file=info.isreg() and not info.issparse(),
            # None only for a member that is no file.
            open=partial(archive.extractfile, info),  # type: ignore[arg-type]
        )
        members.append(member)
        _refuse_bomb(what, archive.offset, len(members), packed)
    while chunk := archive.fileobj.read(_CHUNK):
        if chunk.count(0) != len(chunk):
            raise tarfile.ReadError("something stands behind its end")
        if archive.fileobj.tell() > _most_unpacked(packed):
            raise tarfile.ReadError("it does not end")
    return members


class _StrictInfo(tarfile.TarInfo):
    """A header of a tar, checked."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictInfo:
        info = super().frombuf(buf, encoding, errors)
        is_long = info.type in _HEADERS and info.size > _LONGEST_HEADER
        return _believed(info, is_long)

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _StrictInfo:
        before = archive.offset
        try:
            info = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        return _believed(info, archive.offset <= before)


def _believed(info: _StrictInfo, is_odd: bool) -> _StrictInfo:
    if info.size < 0 or is_odd:
        raise tarfile.ReadError(f"a header says a size of {info.size:,}")
    return info


def _most_unpacked(packed: int) -> int:
    """Returns how many bytes an archive of a size may unpack to."""
    return _USUAL + _TIMES * packed


def _refuse_bomb(what: str, unpacked: int, members: int, packed: int) -> None:
    """Refuses an archive that unpacks to far more than pictures and tables do."""
    if unpacked > _most_unpacked(packed) or members > MOST_MEMBERS:
        raise UserError(
            f"{what} has {packed / 1e9:.2f} GB and would unpack to {unpacked / 1e9:,.2f} GB in "
            f"{members:,} files: it is not what it should be; fetch it again"
        )

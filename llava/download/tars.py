"""Tars, packed or not: read to their end before anything is unpacked."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tqdm import tqdm

from llava.download.members import Member, most_unpacked, refuse_bomb

_CHUNK = 2**20
_LONGEST_HEADER = 2**16  # bytes of a name, or of what stands in for one
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class StrictInfo(tarfile.TarInfo):
    """A header that is what it says.

    Python's own reader takes the first damaged header for the end of the archive, follows a
    negative size back for ever, and reads a name of any length into memory.
    """

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> StrictInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _HEADERS and info.size > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a header says a size of {info.size:,}")
        return info

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> StrictInfo:
        before = archive.offset
        try:
            info = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if info.size < 0 or archive.offset <= before:
            raise tarfile.ReadError(f"a header says a size of {info.size:,}")
        return info


def tar_members(archive: tarfile.TarFile, path: Path) -> list[Member]:
    """Returns the members of a tar that was opened with StrictInfo.

    It is read to its very end: the checksum of what is packed stands there, and a tar that was cut
    between two members lacks the zeros that end it.

    Raises:
        UserError: it unpacks to far more than it should.
        tarfile.ReadError and what else ``sound`` knows: it is damaged.
    """
    packed = path.stat().st_size
    infos = []
    for info in tqdm(archive, f"reading {path.name}", unit="file", delay=1, leave=False):
        infos.append(info)
        refuse_bomb(str(path), archive.offset, len(infos), packed)
    _read_to_the_end(archive, most_unpacked(packed))
    return [
        Member(
            info.name,
            info.size,
            None,
            info.offset,
            info.offset_data + info.size,
            is_file=info.isreg() and not info.issparse(),
            open=lambda info=info: archive.extractfile(info),
        )
        for info in infos
    ]


def _read_to_the_end(archive: tarfile.TarFile, most: int) -> None:
    while chunk := archive.fileobj.read(_CHUNK):
        if chunk.count(0) != len(chunk):
            raise tarfile.ReadError("something stands behind its end")
        if archive.fileobj.tell() > most:
            raise tarfile.ReadError("it does not end")

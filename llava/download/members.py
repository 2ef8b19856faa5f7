"""What is known of a file in an archive, and what is said of an archive that is not sound."""

from __future__ import annotations

import errno
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from llava.download.errors import reason
from llava.errors import UserError

MOST_MEMBERS = 500_000  # of an archive; GQA's has 148,854
_USUAL = 2**30  # bytes that any archive may unpack to
_TIMES = 100  # so many times its own size any archive may unpack to; pictures hardly shrink
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
    open: Callable[[], BinaryIO]


@contextmanager
def sound(what: str) -> Iterator[None]:
    """Turns what is raised inside about the bytes of an archive into a UserError.

    Args:
        what: is read, for the message.
    """
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


def most_unpacked(packed: int) -> int:
    """Returns the bytes that an archive of some size may unpack to before it is not believed."""
    return _USUAL + _TIMES * packed


def refuse_bomb(what: str, unpacked: int, members: int, packed: int) -> None:
    """Refuses an archive that unpacks to far more than pictures and tables do.

    Raises:
        UserError: it does.
    """
    if unpacked > most_unpacked(packed) or members > MOST_MEMBERS:
        raise UserError(
            f"{what} has {packed / 1e9:.2f} GB and would unpack to {unpacked / 1e9:,.2f} GB in "
            f"{members:,} files: it is not what it should be; fetch it again"
        )

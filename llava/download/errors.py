"""Errors between network and disk, each as one message for the user."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import HTTPError  # httpx's, whatever the hub's version calls that

from llava.errors import UserError

AGAIN = "the same command goes on where it stopped"
_LONGEST_REASON = 300  # characters
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refused(Exception):
    """The server does not send the file, and another try would not change that.

    Attributes:
        is_unknown: whether it knows no such repository, or not for this login.
    """

    def __init__(self, says: str, is_unknown: bool = False) -> None:
        super().__init__(says)
        self.is_unknown = is_unknown


class Unreachable(Exception):
    """All tries failed; the message is that of the last one."""


@contextmanager
def fetch_errors(what: str, folder: Path) -> Iterator[None]:
    """Turns errors of network and disk into UserError, while a folder is being filled."""
    try:
        yield
    except (HTTPError, ConnectionError, Refused, Unreachable) as error:
        raise UserError(f"{what} could not be fetched ({reason(error)}); {AGAIN}") from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise UserError(
                f"no room left in {folder} ({free_gigabytes(folder):.2f} GB free) while fetching "
                f"{what}: make room there; {AGAIN}"
            ) from error
        raise UserError(
            f"cannot write {what} to {folder} ({error.strerror or error}): mend that; {AGAIN}"
        ) from error


@contextmanager
def read_errors(folder: Path) -> Iterator[None]:
    """Turns errors of the disk while a folder is only read into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot look at {folder} ({error.strerror or error}): mend that, or name another "
            "folder"
        ) from error


def reason(error: Exception) -> str:
    """Returns the message of an error as one printable line, whatever a server put into it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2])[:_LONGEST_REASON] or type(error).__name__
    return "".join(character if character.isprintable() else "?" for character in text)


def need_room(what: str, folder: Path, size: int) -> None:
    """Checks that the disk has room before anything is fetched.

    Args:
        what: will be fetched.
        folder: where it goes; it need not exist yet.
        size: bytes that are still to come.

    Raises:
        UserError: the disk has less room.
    """
    free = free_gigabytes(folder)
    if size / 1e9 > free:
        raise UserError(
            f"{what} takes {size / 1e9:.2f} GB more and {folder} has {free:.2f} GB left: make room "
            "there, or name another folder"
        )


def free_gigabytes(folder: Path) -> float:
    """Returns the free space on the disk of a folder, or of the nearest one above that exists.

    Raises:
        UserError: the system does not say.
    """
    with read_errors(folder):
        above = (folder.absolute(), *folder.absolute().parents)
        there = next(path for path in above if path.exists())
        return shutil.disk_usage(there).free / 1e9

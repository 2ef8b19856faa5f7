"""Fetches one file: continues a partial one, and takes it as whole only if it is what it should be.

pooch, which compares hashes too, begins a file again after each cut connection.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from llava.download.errors import AGAIN, fetch_errors
from llava.download.line import Address
from llava.download.stream import EDITION, PARTIAL, append, read_size
from llava.errors import UserError
from llava.files import take_lock

_LOCK = ".lock"  # ending of the name of a file beside one that is being fetched
_CHUNK = 2**22
_LONGEST_NAME = 500  # bytes
_LONGEST_PART = 200  # bytes; a file system takes 255, and unfinished files have longer names


@dataclass(frozen=True)
class Remote:
    """A file of the network and what is known of its contents.

    Attributes:
        address: where it is.
        size: bytes; None where that is not known.
        sha256: of its contents, in hex; None where that is not known.
        git_sha1: git's name of its contents, in hex; None where that is not known.
        looks_right: checks the file where no hash is known, so that a web page or a message in its
            place is noticed.
    """

    address: Address
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    looks_right: Callable[[Path], bool] = Path.is_file

    @property
    def is_hashed(self) -> bool:
        """Tells whether a hash of its contents is known."""
        return self.sha256 is not None or self.git_sha1 is not None


def is_whole(path: Path, remote: Remote) -> bool:
    """Tells whether a file has the size and the contents that are known of it."""
    if not path.is_file() or remote.size not in (None, path.stat().st_size):
        return False
    if remote.sha256 is not None:
        return _digest(path, hashlib.sha256()) == remote.sha256
    if remote.git_sha1 is not None:
        # What git calls a file's contents, not a matter of safety.
        start = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        return _digest(path, start) == remote.git_sha1
    return remote.looks_right(path)


def fetch(remote: Remote, path: Path) -> bool:
    """Fetches a file, unless it is there and right.

    A partial file of a run that was stopped (``.partial``) is continued. A file of the right name
    with other contents is replaced.

    Args:
        remote: the file.
        path: where it goes; folders are made.

    Returns:
        Whether anything was fetched.

    Raises:
        UserError: it cannot be fetched or written, comes with other contents than it should, or
            another process is fetching it.
    """
    with fetch_errors(path.name, path.parent):
        partial = partial_of(path)
        if remote.size is None and (path.is_file() or partial.is_file()):
            remote = replace(remote, size=read_size(remote.address))
        if is_whole(path, remote):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            _complete(remote, partial)
            os.replace(partial, path)
    return True


def partial_of(path: Path) -> Path:
    """Returns the path at which a file is written until it is whole."""
    return path.with_name(path.name + PARTIAL)


def place_of(name: str) -> PurePosixPath | None:
    """Returns the path below a folder that a name means; None where it would be no file there.

    The names are those of a hub's files and an archive's members.
    Refused are names that lead out of the folder, that differ between systems, that cannot be
    printed in a line (control and other invisible characters, halves of surrogate pairs), that are
    too long, and those that unfinished files have here.
    """
    place = PurePosixPath(name)
    if not name.isprintable() or "\\" in name or ":" in name:
        return None
    if place.is_absolute() or ".." in place.parts or not place.parts:
        return None
    longest = max(len(part.encode()) for part in place.parts)
    if longest > _LONGEST_PART or len(name.encode()) > _LONGEST_NAME:
        return None
    return None if place.name.endswith((PARTIAL, EDITION, _LOCK)) else place


def _complete(remote: Remote, partial: Path) -> None:
    """Fetches what is missing, and all of it again where parts of two editions were joined."""
    for _ in range(2):
        is_of_one = append(remote.address, partial, remote.size, remote.is_hashed)
        if is_whole(partial, remote):
            return
        partial.unlink()
        if is_of_one:
            break
    raise UserError(
        f"{partial.name.removesuffix(PARTIAL)} came with other contents than it should have from "
        f"{remote.address.url}: fetch it again; if that comes to the same, it was changed on the "
        "way"
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keeps other processes from fetching the same file; the lock ends with this process."""
    lock = path.with_name(path.name + _LOCK)
    with lock.open("wb") as file:
        try:
            is_ours = take_lock(file) and os.path.samestat(lock.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            is_ours = False
        if not is_ours:  # another has it, or had it and has just removed it
            raise UserError(f"another process is fetching {path}: wait for it; {AGAIN}")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _digest(path: Path, digest: hashlib._Hash) -> str:
    name, size = path.name.removesuffix(PARTIAL), path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm.wrapattr(file, "read", size, desc=f"checking {name}", delay=1, leave=False) as reader,
    ):
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

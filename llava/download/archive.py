"""Unpacks members of archives: only those that are wanted, and nowhere but in their folder."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from llava.download.errors import fetch_errors, need_room
from llava.download.fetch import place_of
from llava.download.line import Address
from llava.download.members import Member, archive_errors, archive_members, zip_members
from llava.download.stream import PARTIAL, RemoteFile
from llava.errors import UserError, quoted
from llava.files import replacing

_CHUNK = 2**20
# The members of an archive, and a function to declare the parts (start, stop) that will be read.
Opened = tuple[list[Member], Callable[[Iterable[tuple[int, int]]], None]]


@contextmanager
def remote_members(address: Address) -> Iterator[Opened]:
    """Opens a zip of the network.

    Raises:
        UserError: it is damaged, or unpacks to far more than it should.
        Refused, Unreachable: as read_bytes.
    """
    with RemoteFile(address) as file:
        yield zip_members(file, address.url), file.expect


@contextmanager
def local_members(path: Path) -> Iterator[Opened]:
    """Opens a zip or tar on the disk; a tar is read to its end first.

    Raises:
        UserError: it is damaged, or unpacks to far more than it should.
    """
    with path.open("rb") as file:
        yield archive_members(file, str(path)), lambda spans: None


def extract(
    members: Mapping[PurePosixPath, Member],
    folder: Path,
    what: str,
    expect: Callable[[Iterable[tuple[int, int]]], None],
) -> int:
    """Unpacks members; those that are there and right are left alone.

    Each appears whole or not at all, so that the same call goes on where one was stopped.

    Args:
        members: by the path at which each goes below the folder.
        folder: is made where it does not exist.
        what: the archive, for messages.
        expect: of remote_members or local_members.

    Returns:
        How many were unpacked.

    Raises:
        UserError: a path leads out of the folder, the archive is damaged or cannot be reached, or
            the disk has no room.
    """
    with fetch_errors(what, folder):
        for path, member in members.items():
            if place_of(str(path)) is None or not member.is_file:
                raise UserError(
                    f"{what} has a member {quoted(member.name)} that would not be a file in its "
                    "folder: nothing was unpacked, for this archive is not what it should be"
                )
        bar = tqdm(members.items(), f"checking {what}", unit="file", delay=1, leave=False)
        lacking = [(path, member) for path, member in bar if not _is_there(folder / path, member)]
        lacking.sort(key=lambda one: one[1].start)
        need_room(what, folder, sum(member.size for _, member in lacking))
        expect((member.start, member.stop) for _, member in lacking)
        for path, member in tqdm(lacking, what, unit="file", disable=not lacking):
            _write(member, folder / path, what)
    return len(lacking)


def _is_there(path: Path, member: Member) -> bool:
    if not path.is_file() or path.stat().st_size != member.size:
        return False
    return member.crc is None or zlib.crc32(path.read_bytes()) == member.crc


def _write(member: Member, path: Path, what: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is this process's alone: another may be unpacking the same.
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    # A part of a member cannot be continued.
    with replacing(path, partial), archive_errors(f"{quoted(member.name)} in {what}"):
        with member.open() as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
        if partial.stat().st_size != member.size:
            raise EOFError(f"{partial.stat().st_size:,} bytes instead of {member.size:,}")

"""Members of archives, put where they belong: only those that are wanted, and nowhere else."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from llava.download.errors import need_room, told
from llava.download.line import Address
from llava.download.members import Member, sound
from llava.download.names import place_of
from llava.download.stream import PARTIAL
from llava.download.tars import StrictInfo, tar_members
from llava.download.zips import AHEAD, RUN, RemoteFile, zip_members
from llava.errors import UserError, quoted

_CHUNK = 2**20


@contextmanager
def remote_members(address: Address) -> Iterator[tuple[list[Member], Callable[[int, int], None]]]:
    """Returns the members of a zip of the network, and what to call before neighbours are opened.

    Raises:
        UserError: it is damaged, or unpacks to far more than it should.
        Refused, Unreachable: as read_part.
    """
    with RemoteFile(address) as file:
        with sound(address.url):
            archive = zipfile.ZipFile(file)
            members = zip_members(archive, file, address.url)
        with archive:
            yield members, file.hold


@contextmanager
def local_members(path: Path) -> Iterator[tuple[list[Member], Callable[[int, int], None]]]:
    """Returns the same of a zip or tar that is here; a tar is read to its end before.

    Raises:
        UserError: it is damaged, or unpacks to far more than it should.
    """
    with path.open("rb") as file:
        with sound(str(path)):
            archive = _open(path, file)
            if isinstance(archive, tarfile.TarFile):
                members = tar_members(archive, path)
            else:
                members = zip_members(archive, file, str(path))
        with archive:
            yield members, lambda start, stop: None


def _open(path: Path, file) -> tarfile.TarFile | zipfile.ZipFile:
    try:
        return tarfile.open(path, tarinfo=StrictInfo)
    except tarfile.ReadError:
        if not zipfile.is_zipfile(file):
            raise
        return zipfile.ZipFile(file)


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


def _refuse_tricks(path: PurePosixPath, member: Member, what: str) -> None:
    """Refuses what would be written elsewhere than below its folder, or is no plain file."""
    if place_of(str(path)) is None or not member.is_file:
        raise UserError(
            f"{what} has a member {quoted(member.name)} that would not be a file in its folder: "
            "nothing was unpacked, for this archive is not what it should be"
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
        if run and (gap > AHEAD or member.stop - run[0][1].start > RUN):
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
        with sound(f"{quoted(member.name)} in {what}"):
            with member.open() as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
            if partial.stat().st_size != member.size:
                raise EOFError(f"{partial.stat().st_size:,} bytes instead of {member.size:,}")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # half a member cannot be gone on with

"""Brings a benchmark from its home into the layout that its reader reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from tqdm import tqdm

from llava.benchmarks.catalog import Benchmark
from llava.benchmarks.sources import AskedImages, ByHand, HubFiles, Source, WebFile, ZipParts
from llava.benchmarks.verify import Finding, asked_images, is_there, verify_benchmark
from llava.download.archive import extract, local_members, remote_members
from llava.download.errors import told
from llava.download.fetch import Remote, fetch
from llava.download.hub import NotThere, Repository, fetch_files, hub_file
from llava.download.line import USUAL, Address, Network
from llava.download.members import Member
from llava.download.names import place_of
from llava.errors import UserError, quoted
from llava.eval.benchmarks.registry import reader

_HEAD = 2**12  # bytes of a file that tell what it is


def fetch_benchmark(benchmark: Benchmark, folder: Path, network: Network = USUAL) -> Finding:
    """Fetches what is not there, and looks at what is there then.

    The same call goes on where one was stopped. Where all is there, nothing is asked for.

    Args:
        benchmark: of catalog.KNOWN.
        folder: the benchmark's own.
        network: how it is reached.

    Raises:
        UserError: something cannot be fetched or written, or an archive is not right.
    """
    found = verify_benchmark(benchmark, folder)
    if found.is_whole:
        return found
    with told(benchmark.title, folder):
        for source in benchmark.sources:
            _BRING[type(source)](source, benchmark, folder, network)
    return verify_benchmark(benchmark, folder)


def _hub_files(source: HubFiles, benchmark: Benchmark, folder: Path, network: Network) -> None:
    repository = Repository(source.repository, source.kind, network)
    try:
        fetch_files(repository, source.files, folder, source.flat)
    except NotThere as error:
        if not source.optional:
            raise
        print(f"going on without: {error}", flush=True)


def _web_file(source: WebFile, benchmark: Benchmark, folder: Path, network: Network) -> None:
    def looks_right(path: Path) -> bool:
        with path.open("rb") as file:
            return re.match(source.begins.encode(), file.read(_HEAD)) is not None

    address = Address(source.url, network=network)
    fetch(Remote(address, sha256=source.sha256, looks_right=looks_right), folder / source.path)


def _zip_parts(source: ZipParts, benchmark: Benchmark, folder: Path, network: Network) -> None:
    address = Address(source.file, network=network)
    if source.repository is not None:
        address = hub_file(Repository(source.repository, "dataset", network), source.file)
    name = PurePosixPath(source.file).name
    wanted = _asked(benchmark, folder, source.folder) if source.only_asked else None
    if wanted is not None and all(is_there(folder / source.folder / path) for path in wanted):
        return
    here = folder / name  # whoever has the archive already need not fetch it
    with told(name, folder):
        archive = local_members(here) if here.is_file() else remote_members(address)
        _unpack(archive, source.members, folder / source.folder, name, wanted)


def _by_hand(source: ByHand, benchmark: Benchmark, folder: Path, network: Network) -> None:
    wanted = _asked(benchmark, folder, source.folder)
    if all(is_there(folder / source.folder / path) for path in wanted):
        return
    archive = next((folder / n for n in source.archives if (folder / n).is_file()), None)
    if archive is not None:
        with told(archive.name, folder):
            to = folder / source.folder
            _unpack(local_members(archive), source.members, to, archive.name, wanted)


def _asked_images(
    source: AskedImages, benchmark: Benchmark, folder: Path, network: Network
) -> None:
    target = folder / source.folder
    wanted = _asked(benchmark, folder, source.folder)
    is_picture = partial(is_there, decode=True)
    lacking = sorted(path for path in wanted if not is_there(target / path))
    for path in tqdm(lacking, f"{benchmark.name} images", unit="file", disable=not lacking):
        address = Address(f"{source.url}/{quote(str(path))}", network=network)
        fetch(Remote(address, looks_right=is_picture), target / path)


_BRING: dict[type[Source], Callable[[Source, Benchmark, Path, Network], None]] = {
    HubFiles: _hub_files,
    WebFile: _web_file,
    ZipParts: _zip_parts,
    AskedImages: _asked_images,
    ByHand: _by_hand,
}


def _asked(benchmark: Benchmark, folder: Path, below: str) -> set[PurePosixPath]:
    """The images of a folder that a question is about, as paths below it.

    Raises:
        UserError: a path that would lead out of the folder, or that no image has.
    """
    images = asked_images(reader(benchmark.name).read_questions(folder))
    where = folder / below
    asked = {
        PurePosixPath(image.relative_to(where).as_posix())
        for image in images
        if image.is_relative_to(where)
    }
    for path in asked:
        if place_of(str(path)) is None:
            raise UserError(
                f"a question in {folder} is about {quoted(str(path))}, which leads out of {where} "
                "or is no name of an image: mend the question file, or fetch it again"
            )
    return asked


def _unpack(
    archive: AbstractContextManager,
    pattern: str,
    folder: Path,
    name: str,
    wanted: set[PurePosixPath] | None,
) -> None:
    """Unpacks the members that match a pattern and are wanted."""
    with archive as (members, hold):
        chosen: dict[PurePosixPath, Member] = {}
        for member in members:
            match = None if member.name.endswith("/") else re.fullmatch(pattern, member.name)
            if match and (wanted is None or PurePosixPath(match[1]) in wanted):
                _refuse_second(chosen.setdefault(PurePosixPath(match[1]), member), member, name)
        if not chosen:
            raise UserError(
                f"{name} has nothing of what is wanted ({len(members):,} members, none like "
                f"{pattern}): is it the right archive?"
            )
        size = sum(member.stop - member.start for member in chosen.values())
        print(f"{name}: {len(chosen):,} files of {len(members):,}, {size / 1e9:.2f} GB", flush=True)
        extract(chosen, folder, name, hold)


def _refuse_second(first: Member, member: Member, name: str) -> None:
    """Refuses two members for one place, unless a checksum says that they are the same."""
    is_same = first.crc is not None and (first.size, first.crc) == (member.size, member.crc)
    if member is not first and not is_same:
        raise UserError(
            f"{name} has both {quoted(first.name)} and {quoted(member.name)}, which go to one place: "
            "nothing was unpacked, for this archive is not what it should be"
        )

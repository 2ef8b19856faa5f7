"""Fetches a benchmark from its home into the layout that its reader reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from tqdm import tqdm

from llava.benchmarks.catalog import Benchmark
from llava.benchmarks.sources import AskedImages, ByHand, HubFiles, WebFile, ZipParts
from llava.benchmarks.verify import Finding, asked_images, is_there, verify_benchmark
from llava.download.archive import extract, local_members, remote_members
from llava.download.errors import fetch_errors
from llava.download.fetch import Remote, fetch, place_of
from llava.download.hub import NotThere, Repository, fetch_files, hub_file
from llava.download.line import USUAL, Address, Network
from llava.download.members import Member
from llava.errors import UserError, quoted
from llava.eval.benchmarks.registry import reader

_HEAD = 2**12  # bytes of a file that tell what it is


def fetch_benchmark(benchmark: Benchmark, folder: Path, network: Network = USUAL) -> Finding:
    """Fetches what is not there, and verifies what is there then.

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
    with fetch_errors(benchmark.title, folder):
        for source in benchmark.sources:
            match source:
                case HubFiles():
                    _fetch_from_hub(source, folder, network)
                case WebFile():
                    _fetch_file(source, folder, network)
                case AskedImages():
                    _fetch_images(source, benchmark, folder, network)
                case ZipParts() | ByHand():
                    _unpack(source, benchmark, folder, network)
    return verify_benchmark(benchmark, folder)


def _fetch_from_hub(source: HubFiles, folder: Path, network: Network) -> None:
    repository = Repository(source.repository, source.kind, network)
    try:
        fetch_files(repository, source.files, folder, source.flat)
    except NotThere as error:
        if not source.optional:
            raise
        print(f"going on without: {error}", flush=True)


def _fetch_file(source: WebFile, folder: Path, network: Network) -> None:
    def looks_right(path: Path) -> bool:
        with path.open("rb") as file:
            return re.match(source.begins.encode(), file.read(_HEAD)) is not None

    address = Address(source.url, network=network)
    fetch(Remote(address, sha256=source.sha256, looks_right=looks_right), folder / source.path)


def _fetch_images(
    source: AskedImages, benchmark: Benchmark, folder: Path, network: Network
) -> None:
    lacking = sorted(_lacking(_asked(benchmark, folder, source.folder), folder / source.folder))
    for path in tqdm(lacking, f"{benchmark.name} images", unit="file", disable=not lacking):
        address = Address(f"{source.url}/{quote(str(path))}", network=network)
        remote = Remote(address, looks_right=partial(is_there, decode=True))
        fetch(remote, folder / source.folder / path)


def _unpack(
    source: ZipParts | ByHand, benchmark: Benchmark, folder: Path, network: Network
) -> None:
    """Unpacks what is wanted of an archive in the folder or, if allowed, of a fetched one."""
    target, wanted = folder / source.folder, None
    if source.only_asked:
        wanted = _asked(benchmark, folder, source.folder)
        if not _lacking(wanted, target):
            return
    here = next((folder / name for name in source.archives if (folder / name).is_file()), None)
    if here is not None:
        name, archive = here.name, local_members(here)
    elif isinstance(source, ZipParts):
        if source.repository is None:
            address = Address(source.file, network=network)
        else:
            address = hub_file(Repository(source.repository, "dataset", network), source.file)
        name, archive = source.archives[0], remote_members(address)
    else:
        return
    with fetch_errors(name, folder), archive as (members, expect):
        chosen = _choose(members, source.members, wanted, name)
        size = sum(member.stop - member.start for member in chosen.values())
        print(f"{name}: {len(chosen):,} files of {len(members):,}, {size / 1e9:.2f} GB", flush=True)
        extract(chosen, target, name, expect)


def _asked(benchmark: Benchmark, folder: Path, below: str) -> set[PurePosixPath]:
    """Returns the images of a folder that a question is about, as paths below it.

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


def _lacking(images: Iterable[PurePosixPath], folder: Path) -> list[PurePosixPath]:
    return [path for path in images if not is_there(folder / path)]


def _choose(
    members: Collection[Member], pattern: str, wanted: Collection[PurePosixPath] | None, name: str
) -> dict[PurePosixPath, Member]:
    """Returns the members that match a pattern and are wanted, by where they go.

    Raises:
        UserError: there is none, or two for one place that no checksum says to be the same.
    """
    chosen: dict[PurePosixPath, Member] = {}
    for member in members:
        match = None if member.name.endswith("/") else re.fullmatch(pattern, member.name)
        if match is None or (wanted is not None and PurePosixPath(match[1]) not in wanted):
            continue
        first = chosen.setdefault(PurePosixPath(match[1]), member)
        is_same = first.crc is not None and (first.size, first.crc) == (member.size, member.crc)
        if first is not member and not is_same:
            raise UserError(
                f"{name} has both {quoted(first.name)} and {quoted(member.name)}, which go to one "
                "place: nothing was unpacked, for this archive is not what it should be"
            )
    if not chosen:
        raise UserError(
            f"{name} has nothing of what is wanted ({len(members):,} members, none like "
            f"{pattern}): is it the right archive?"
        )
    return chosen

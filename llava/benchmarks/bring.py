"""Brings a benchmark from its home into the layout that its reader reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from tqdm import tqdm

from llava.benchmarks.known import Benchmark
from llava.benchmarks.look import Finding, asked_images, is_there, look
from llava.benchmarks.sources import AskedImages, ByHand, HubFiles, Source, WebFile, ZipParts
from llava.download.archive import Member, extract, local_members, remote_members
from llava.download.fetch import Remote, fetch
from llava.download.hub import NotThere, Repository, fetch_files, hub_file
from llava.download.stream import Address
from llava.download.trouble import told
from llava.errors import UserError
from llava.eval.benchmarks.registry import reader


def bring(benchmark: Benchmark, folder: Path, endpoint: str | None = None) -> Finding:
    """Fetches what is not there, and looks at what is there then.

    The same call goes on where one was stopped. Where all is there, nothing is asked for.

    Args:
        benchmark: of known.KNOWN.
        folder: the benchmark's own.
        endpoint: another hub; None takes the library's, which HF_ENDPOINT names.

    Raises:
        UserError: something cannot be fetched or written, or an archive is not right.
    """
    found = look(benchmark, folder)
    if found.is_whole:
        return found
    with told(benchmark.title, folder):
        for source in benchmark.sources:
            _BRING[type(source)](source, benchmark, folder, endpoint)
    return look(benchmark, folder)


def _hub_files(source: HubFiles, benchmark: Benchmark, folder: Path, endpoint: str | None) -> None:
    repository = Repository(source.repository, source.kind, endpoint)
    try:
        fetch_files(repository, source.files, folder, source.flat)
    except NotThere as error:
        if not source.optional:
            raise
        print(f"going on without: {error}", flush=True)


def _web_file(source: WebFile, benchmark: Benchmark, folder: Path, endpoint: str | None) -> None:
    fetch(Remote(Address(source.url), sha256=source.sha256), folder / source.path)


def _zip_parts(source: ZipParts, benchmark: Benchmark, folder: Path, endpoint: str | None) -> None:
    address = Address(source.file)
    if source.repository is not None:
        address = hub_file(Repository(source.repository, "dataset", endpoint), source.file)
    name = PurePosixPath(source.file).name
    wanted = _asked(benchmark, folder, source.folder) if source.only_asked else None
    if wanted is not None and all(is_there(folder / source.folder / path) for path in wanted):
        return
    here = folder / name  # whoever has the archive already need not fetch it
    with told(name, folder):
        archive = local_members(here) if here.is_file() else remote_members(address)
        _unpack(archive, source.members, folder / source.folder, name, wanted)


def _by_hand(source: ByHand, benchmark: Benchmark, folder: Path, endpoint: str | None) -> None:
    wanted = _asked(benchmark, folder, source.folder)
    if all(is_there(folder / source.folder / path) for path in wanted):
        return
    archive = next((folder / n for n in source.archives if (folder / n).is_file()), None)
    if archive is not None:
        with told(archive.name, folder):
            to = folder / source.folder
            _unpack(local_members(archive), source.members, to, archive.name, wanted)


def _asked_images(
    source: AskedImages, benchmark: Benchmark, folder: Path, endpoint: str | None
) -> None:
    target = folder / source.folder
    wanted = _asked(benchmark, folder, source.folder)
    lacking = sorted(path for path in wanted if not is_there(target / path))
    for path in tqdm(lacking, f"{benchmark.name} images", unit="file", disable=not lacking):
        fetch(Remote(Address(f"{source.url}/{quote(str(path))}")), target / path)


_BRING: dict[type[Source], Callable[[Source, Benchmark, Path, str | None], None]] = {
    HubFiles: _hub_files,
    WebFile: _web_file,
    ZipParts: _zip_parts,
    AskedImages: _asked_images,
    ByHand: _by_hand,
}


def _asked(benchmark: Benchmark, folder: Path, below: str) -> set[PurePosixPath]:
    """The images of a folder that a question is about, as paths below it.

    Raises:
        UserError: a path that would lead out of the folder.
    """
    images = asked_images(reader(benchmark.name).read_questions(folder))
    where = folder / below
    asked = {
        PurePosixPath(image.relative_to(where).as_posix())
        for image in images
        if image.is_relative_to(where)
    }
    for path in asked:
        if ".." in path.parts:
            raise UserError(f"a question in {folder} is about {path}, which leads out of {where}")
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
                chosen[PurePosixPath(match[1])] = member
        if not chosen:
            raise UserError(
                f"{name} has nothing of what is wanted ({len(members):,} members, none like "
                f"{pattern}): is it the right archive?"
            )
        size = sum(member.stop - member.start for member in chosen.values())
        print(f"{name}: {len(chosen):,} files of {len(members):,}, {size / 1e9:.2f} GB", flush=True)
        extract(chosen, folder, name, hold)

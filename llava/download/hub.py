"""Fetches from repositories of the Hugging Face hub, or of the one that HF_ENDPOINT names.

The listing is read here, because huggingface_hub does not check what answers, nor how large it is;
the files too, because it compares no hashes (see stream.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from llava.download.errors import Refused, fetch_errors, need_room, reason
from llava.download.fetch import Remote, fetch, is_whole, partial_of, place_of
from llava.download.line import USUAL, Address, Network
from llava.download.stream import read_bytes, size_of
from llava.errors import UserError, quoted
from llava.files import parse_json

_LONGEST_LISTING = 2**26  # bytes; some 400,000 files
_LARGEST_FILE = 2**60  # bytes; sums of such sizes still are numbers of gigabytes


class NotThere(UserError):
    """The hub has no such repository, or the repository no such file."""


@dataclass(frozen=True)
class Repository:
    """A repository of the hub.

    Attributes:
        name: owner and name.
        kind: "model" or "dataset".
        network: how the hub is reached.
    """

    name: str
    kind: str = "model"
    network: Network = USUAL


def fetch_files(
    repository: Repository, patterns: Sequence[str], target: Path, flat: bool
) -> list[Path]:
    """Fetches files of a repository; those that are there and right are left alone.

    Args:
        repository: where they are.
        patterns: which of them; each must match at least one.
        target: folder for them.
        flat: whether they lose the folders that they have in the repository.

    Returns:
        Their paths.

    Raises:
        UserError: as list_files and fetch, or the disk has no room for them.
    """
    files = list_files(repository, patterns)
    places = {_place(name, target, flat): remote for name, remote in files.items()}
    if len(places) < len(files):
        names = ", ".join(quoted(name) for name in sorted(files)[:10])
        raise UserError(f"{repository.name} has several files of one name, among {names}")
    with fetch_errors(repository.name, target):
        lacking = {path: remote for path, remote in places.items() if not is_whole(path, remote)}
        to_come = [(one.size or 0) - size_of(partial_of(path)) for path, one in lacking.items()]
        need_room(repository.name, target, sum(max(0, size) for size in to_come))
    for path in tqdm(lacking, repository.name, unit="file", disable=not lacking):
        fetch(lacking[path], path)
    return list(places)


def list_files(repository: Repository, patterns: Sequence[str]) -> dict[str, Remote]:
    """Returns the files that match one of the patterns, by their paths, with sizes and hashes.

    Raises:
        NotThere: no such repository, or a pattern that matches nothing.
        UserError: it cannot be reached, or what answers is no hub.
    """
    hub = repository.network.endpoint or constants.ENDPOINT
    url = f"{hub}/api/{repository.kind}s/{repository.name}?blobs=true"
    with fetch_errors(repository.name, Path(".")):
        try:
            address = Address(url, build_hf_headers(), repository.network)
            content = read_bytes(address, _LONGEST_LISTING)
        except Refused as error:
            if not error.is_unknown:
                raise
            raise NotThere(
                f"there is no {repository.kind} {repository.name} on the hub, or it asks for a "
                "login: look at its page, or log in with .venv/bin/hf auth login"
            ) from error
    revision, files = read_listing(content, repository.name)
    names = {name for pattern in patterns for name in _matches(pattern, files, repository)}
    return {
        name: Remote(hub_file(repository, name, revision), **known)
        for name, known in files.items()
        if name in names
    }


def hub_file(repository: Repository, name: str, revision: str = "main") -> Address:
    """Returns the address of a file, whether it exists or not."""
    kind, endpoint = repository.kind, repository.network.endpoint
    url = hf_hub_url(repository.name, name, repo_type=kind, revision=revision, endpoint=endpoint)
    return Address(url, build_hf_headers(), repository.network)


def read_listing(content: bytes, name: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Reads the JSON with which a hub answers about a repository.

    Args:
        content: the JSON.
        name: of the repository, for messages.

    Returns:
        The commit, and by the paths of the files what is known of them, as Remote has it.

    Raises:
        UserError: it is not the answer of a hub.
    """
    files: dict[str, dict[str, object]] = {}
    try:
        match parse_json(content.decode("utf-8")):
            case {"sha": str(commit), "siblings": [*siblings]} if _is_hex(commit, 40):
                for sibling in siblings:
                    path, known = _read_sibling(sibling)
                    if files.setdefault(path, known) != known:
                        raise ValueError(f"it has two files {quoted(path)}")
                return commit, files
            case about:
                raise ValueError(f"its answer is {quoted(about)}")
    except ValueError as error:
        raise UserError(
            f"what answered about {name} is no hub ({reason(error)}): check HF_ENDPOINT and the "
            "network"
        ) from error


def _read_sibling(sibling: object) -> tuple[str, dict[str, object]]:
    """Returns the path of a file and what is known of it.

    Raises:
        ValueError: it is not what a hub says about a file.
    """
    said = sibling if isinstance(sibling, dict) else {}
    match {"lfs": None, "blobId": None, **said}:
        case {"rfilename": str(path), "lfs": {"sha256": str(digest)}} if _is_hex(digest, 64):
            known = {"sha256": digest}
        case {"rfilename": str(path), "lfs": None, "blobId": str(digest)} if _is_hex(digest, 40):
            known = {"git_sha1": digest}
        case {"rfilename": str(path), "lfs": None, "blobId": None}:
            known = {}
        case _:
            raise ValueError(f"it says of a file {quoted(sibling)}")
    size = said.get("size")
    if size is not None and not (type(size) is int and 0 <= size <= _LARGEST_FILE):
        raise ValueError(f"the size of a file is {quoted(size)}")
    return path, {"size": size, **known}


def _is_hex(text: str, digits: int) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None


def _matches(pattern: str, names: Iterable[str], repository: Repository) -> list[str]:
    """Returns the names that the first alternative of a pattern matches that matches any."""
    for alternative in pattern.split("|"):
        if found := [name for name in names if fnmatchcase(name, alternative)]:
            return found
    raise NotThere(
        f"{repository.name} has no file {pattern}: look at its page on the hub for what it is "
        "called now, and put it into its place by hand"
    )


def _place(name: str, target: Path, flat: bool) -> Path:
    place = place_of(name)
    if place is None:
        raise UserError(
            f"the repository has a file {quoted(name)}, which would go astray: not fetched"
        )
    return target / (place.name if flat else place)

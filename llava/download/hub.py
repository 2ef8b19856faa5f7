"""Repositories of the Hugging Face hub, or of what HF_ENDPOINT names instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from llava.download.errors import Refused, need_room, told
from llava.download.fetch import Remote, fetch, is_whole
from llava.download.line import USUAL, Address, Network
from llava.download.listing import read_listing
from llava.download.names import place_of
from llava.download.stream import PARTIAL, read_all
from llava.errors import UserError, quoted

_LONGEST_LISTING = 2**26  # bytes; some 400,000 files


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


def list_files(repository: Repository, patterns: Sequence[str]) -> dict[str, Remote]:
    """The files that match one of the patterns, by their paths, with sizes and hashes.

    Raises:
        NotThere: no such repository, or a pattern that matches nothing.
        UserError: no way to it, or what answers is no hub.
    """
    hub = repository.network.endpoint or constants.ENDPOINT
    url = f"{hub}/api/{repository.kind}s/{repository.name}?blobs=true"
    with told(repository.name, Path(".")):
        try:
            content = read_all(_with_login(url, repository), _LONGEST_LISTING)
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
        name: Remote(_address(repository, name, revision), **known)
        for name, known in files.items()
        if name in names
    }


def _matches(pattern: str, names: Iterable[str], repository: Repository) -> list[str]:
    """The names that a pattern means: what its first alternative matches that matches any."""
    for alternative in pattern.split("|"):
        if found := [name for name in names if fnmatchcase(name, alternative)]:
            return found
    raise NotThere(
        f"{repository.name} has no file {pattern}: look at its page on the hub for what it is "
        "called now, and put it into its place by hand"
    )


def fetch_files(
    repository: Repository, patterns: Sequence[str], target: Path, flat: bool
) -> list[Path]:
    """Fetches files of a repository; those that are there and right are left alone.

    Args:
        repository: where they are.
        patterns: which of them; each must match one at least.
        target: folder for them.
        flat: whether they lose the folders that they have in the repository.

    Returns:
        Where they lie now.

    Raises:
        UserError: as list_files and fetch, or there is no room for them.
    """
    files = list_files(repository, patterns)
    places = {_place(name, target, flat): remote for name, remote in files.items()}
    if len(places) < len(files):
        names = ", ".join(quoted(name) for name in sorted(files)[:10])
        raise UserError(f"{repository.name} has several files of one name, among {names}")
    with told(repository.name, target):
        lacking = {path: remote for path, remote in places.items() if not is_whole(path, remote)}
        need_room(repository.name, target, sum(_to_come(*one) for one in lacking.items()))
    bar = tqdm(lacking.items(), repository.name, unit="file", disable=not lacking)
    for path, remote in bar:
        fetch(remote, path)
    return list(places)


def hub_file(repository: Repository, name: str) -> Address:
    """The address of a file, without asking whether it is there."""
    return _address(repository, name, "main")


def _address(repository: Repository, name: str, revision: str) -> Address:
    url = hf_hub_url(
        repository.name,
        name,
        repo_type=repository.kind,
        revision=revision,
        endpoint=repository.network.endpoint,
    )
    return _with_login(url, repository)


def _with_login(url: str, repository: Repository) -> Address:
    return Address(url, build_hf_headers(), repository.network)


def _place(name: str, target: Path, flat: bool) -> Path:
    place = place_of(name)
    if place is None:
        raise UserError(
            f"the repository has a file {quoted(name)}, which would go astray: not fetched"
        )
    return target / (place.name if flat else place)


def _to_come(path: Path, remote: Remote) -> int:
    partial = path.with_name(path.name + PARTIAL)
    have = partial.stat().st_size if partial.is_file() else 0
    return max(0, (remote.size or 0) - have)

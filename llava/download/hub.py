"""Repositories of the Hugging Face hub, or of what HF_ENDPOINT names instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from llava.download.fetch import Remote, fetch, is_whole
from llava.download.stream import PARTIAL, TIMEOUT, Address
from llava.download.trouble import need_room, reason, told
from llava.errors import UserError


class NotThere(UserError):
    """The hub has no such repository, or the repository no such file."""


@dataclass(frozen=True)
class Repository:
    """A repository of the hub.

    Attributes:
        name: owner and name.
        kind: "model" or "dataset".
        endpoint: another hub; None takes the library's, which HF_ENDPOINT names.
    """

    name: str
    kind: str = "model"
    endpoint: str | None = None


def list_files(repository: Repository, patterns: Sequence[str]) -> dict[str, Remote]:
    """The files that match one of the patterns, by their paths, with sizes and hashes.

    Raises:
        NotThere: no such repository, or a pattern that matches nothing.
        UserError: no way to it.
    """
    with told(repository.name, Path(".")):
        try:
            info = HfApi(endpoint=repository.endpoint).repo_info(
                repository.name, repo_type=repository.kind, files_metadata=True, timeout=TIMEOUT
            )
            names = [sibling.rfilename for sibling in info.siblings]
        except RepositoryNotFoundError as error:
            raise NotThere(
                f"there is no {repository.kind} {repository.name} on the hub, or it asks for a "
                "login: look at its page, or log in with .venv/bin/hf auth login"
            ) from error
        except (ValueError, TypeError, KeyError) as error:  # not what a hub says
            raise UserError(
                f"what answered about {repository.name} is no hub ({reason(error)}): check "
                "HF_ENDPOINT and the network"
            ) from error
    wanted = {name for pattern in patterns for name in _matches(pattern, names, repository)}
    return {
        sibling.rfilename: Remote(
            _address(repository, sibling.rfilename, info.sha),
            sibling.size,
            sha256=sibling.lfs["sha256"] if sibling.lfs else None,
            git_sha1=None if sibling.lfs else sibling.blob_id,
        )
        for sibling in info.siblings
        if sibling.rfilename in wanted
    }


def _matches(pattern: str, names: Sequence[str], repository: Repository) -> list[str]:
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
        raise UserError(f"{repository.name} has several files of one name: {sorted(files)}")
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
        endpoint=repository.endpoint,
    )
    return Address(url, build_hf_headers())


def _place(name: str, target: Path, flat: bool) -> Path:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name:
        raise UserError(f"the repository has a file {name!r}, which would go astray: not fetched")
    return target / (parts.name if flat else parts)


def _to_come(path: Path, remote: Remote) -> int:
    partial = path.with_name(path.name + PARTIAL)
    have = partial.stat().st_size if partial.is_file() else 0
    return max(0, (remote.size or 0) - have)

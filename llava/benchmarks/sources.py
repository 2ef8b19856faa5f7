"""Where files of a benchmark come from, as records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository of the Hugging Face hub.

    Attributes:
        repository: owner and name.
        kind: "model" or "dataset".
        files: patterns, as in Published.files.
        flat: whether they lose the folders that they have there.
        optional: whether the benchmark can be run without them.
    """

    repository: str
    kind: str
    files: tuple[str, ...]
    flat: bool = False
    optional: bool = False


@dataclass(frozen=True)
class WebFile:
    """One file of the web.

    Attributes:
        url: where it is.
        path: where it goes, below the benchmark's folder.
        begins: a pattern of its beginning, so that an error message in its place is found out.
        sha256: of its contents in hex; None where it is not known.
    """

    url: str
    path: str
    begins: str
    sha256: str | None = None


@dataclass(frozen=True)
class ZipParts:
    """Members of a zip, read from it where it is: the rest is not fetched.

    A zip of that name in the benchmark's folder is read instead.

    Attributes:
        file: its url; of a zip on the hub its name in the repository.
        members: a pattern of the whole name of a member; its one group goes below the folder.
        folder: where they go, below the benchmark's folder.
        repository: dataset of the hub that the zip is in; None for a zip of the web.
        only_asked: whether only images are wanted that a question is about.
    """

    file: str
    members: str
    folder: str
    repository: str | None = None
    only_asked: bool = False

    @property
    def archives(self) -> tuple[str, ...]:
        """The name under which it may lie in the benchmark's folder."""
        return (PurePosixPath(self.file).name,)


@dataclass(frozen=True)
class AskedImages:
    """Images that have an address each; those are fetched that a question is about.

    Attributes:
        url: of the folder that they are in.
        folder: where they go, below the benchmark's folder.
    """

    url: str
    folder: str


@dataclass(frozen=True)
class ByHand:
    """What may not be fetched by a program.

    Attributes:
        folder: where its files go, below the benchmark's folder.
        archives: names under which an archive of them may lie in the benchmark's folder; it is
            unpacked.
        members: as in ZipParts.
        how: what to do, in sentences; {folder} stands for the benchmark's folder.
    """

    folder: str
    archives: tuple[str, ...]
    members: str
    how: str
    only_asked: ClassVar[bool] = True


Source = HubFiles | WebFile | ZipParts | AskedImages | ByHand

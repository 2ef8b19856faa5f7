"""The published checkpoints, fetched into their places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava.checkpoints.known import ALL, PUBLISHED, Published
from llava.download.hub import Repository, fetch_files
from llava.download.line import USUAL, Network
from llava.errors import UserError


def plan(names: Sequence[str]) -> list[Published]:
    """What a list of names stands for.

    Raises:
        UserError: one of them is unknown, or there is none.
    """
    known = f"{', '.join(PUBLISHED)}, or all ({', '.join(ALL)})"
    if not names:
        raise UserError(f"say what to fetch: {known}")
    wanted = [part for name in names for part in (ALL if name == "all" else [name])]
    for name in wanted:
        if name not in PUBLISHED:
            raise UserError(f"there is no checkpoint {name!r} to fetch; there are: {known}")
    return [PUBLISHED[name] for name in dict.fromkeys(wanted)]


def download(checkpoint: Published, root: Path, network: Network = USUAL) -> list[Path]:
    """Fetches a checkpoint; half a file is gone on with.

    What is there is compared with the size and the hash that the hub states, and fetched again
    where it differs.

    Args:
        checkpoint: of PUBLISHED.
        root: the checkpoints root.
        network: how the hub is reached.

    Returns:
        Its files.

    Raises:
        UserError: it cannot be fetched, or there is no room for it.
    """
    return fetch_files(
        Repository(checkpoint.repository, "model", network),
        checkpoint.files,
        root / checkpoint.target,
        checkpoint.flat,
    )

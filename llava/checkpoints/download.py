"""The published checkpoints, fetched into their places."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from llava.checkpoints.known import ALL, PUBLISHED, Published
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


def download(checkpoint: Published, root: Path) -> Path:
    """Fetches a checkpoint; what is there is not fetched again, half a file is gone on with.

    Args:
        checkpoint: of PUBLISHED.
        root: the checkpoints root.

    Returns:
        Where it lies.

    Raises:
        UserError: it cannot be fetched, or there is no room for it.
    """
    target = root / checkpoint.target
    try:
        target.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target).free / 1e9
        if free < checkpoint.gigabytes and not any(target.iterdir()):
            raise UserError(
                f"{checkpoint.repository} takes {checkpoint.gigabytes:.1f} GB and {target} has "
                f"{free:.1f} GB left: make room, or name another folder with --checkpoints-root"
            )
        snapshot_download(
            checkpoint.repository, local_dir=target, allow_patterns=list(checkpoint.files)
        )
    except UserError:
        raise
    except Exception as error:  # every failure of the hub, the way there, or the disk ends here
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"{checkpoint.repository} could not be fetched ({reason}); the same command goes on "
            "where it stopped"
        ) from error
    return target

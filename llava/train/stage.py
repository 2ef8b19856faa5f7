"""A running stage: its flags are checked, its processes are connected, and its folder is locked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.train.arguments import TrainArguments, check_arguments
from llava.train.distributed import Team
from llava.train.run_dir import RunFolder


@dataclass(frozen=True)
class Stage:
    """The resources of a running stage.

    Attributes:
        name: of the stage.
        args: its flags, checked.
        team: the processes.
        folder: the output folder, locked; only the first process has it.
    """

    name: str
    args: TrainArguments
    team: Team
    folder: Any  # a RunFolder; None on all processes but the first


def check_given(args: TrainArguments, *names: str) -> None:
    """Refuses flags of which one that a stage needs is missing.

    Raises:
        UserError: names all of them.
    """
    if any(getattr(args, name) is None for name in names):
        *flags, last = [f"--{name.replace('_', '-')}" for name in names]
        raise UserError(f"name {', '.join(flags)} and {last}")


@contextmanager
def open_stage(name: str, args: TrainArguments) -> Iterator[Stage]:
    """Opens a stage, before anything is read or written.

    Raises:
        UserError: a flag is wrong, a process is missing, or another run trains into the
            output folder.
    """
    check_arguments(args)
    team = Team(args.device)
    if team.count > 1 and getattr(args, "device_map", None) is not None:
        raise UserError(
            f"--device-map would spread each of {team.count} processes over the GPUs of the "
            "others: leave it out, or start one process"
        )
    with team.first_opens(lambda: RunFolder(Path(args.output_dir))) as folder:
        yield Stage(name, args, team, folder)

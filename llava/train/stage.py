"""A running stage: its flags are checked, its processes are connected, and its folder is locked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.errors import UserError
from llava.eval.command import run_command
from llava.train.arguments import TrainArguments, check_arguments
from llava.train.folder import RunFolder
from llava.train.team import Team

# The way to continue a run that stopped for lack of memory.
_LESS_MEMORY = (
    "a smaller {batches}, which belongs to the settings of a run: where --output-dir has "
    "checkpoints already, name another one"
)


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
    folder: Optional[RunFolder]


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


def run_stage(
    arguments: type[TrainArguments],
    work: Callable[[TrainArguments], int],
    name: str,
    description: str,
    argv: Sequence[str] | None = None,
    free_batches: str = "",
) -> int:
    """Runs a stage of training as run_command runs a command.

    Args:
        arguments: each field is a flag.
        work: receives the filled dataclass and returns the exit status.
        name: of the stage.
        description: first line of the help.
        argv: the command line; None takes the process's.
        free_batches: flag for the batch size of the work before the stage learns.
    """
    advice = _LESS_MEMORY.format(batches="--micro-batch-size")
    if free_batches:
        advice = f"a smaller {free_batches}, or {advice}"
    program = f"llava.train.{name}"
    return run_command(arguments, work, program, description, argv, less_memory=advice)

"""The frame of every stage: a command with advice for a lack of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from llava.utils.cli import run_command

Arguments = TypeVar("Arguments")

# The way to continue a run that stopped for lack of memory.
_LESS_MEMORY = (
    "a smaller {batches}, which belongs to the settings of a run: where --output-dir has "
    "checkpoints already, name another one"
)


def run_stage(
    arguments: type[Arguments],
    work: Callable[[Arguments], int],
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

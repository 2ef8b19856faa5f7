"""The frame of every stage: a command with advice for a lack of memory."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from llava.moved import names_of
from llava.train.arguments import TrainArguments
from llava.utils.cli import Main, command

# The way to continue a run that stopped for lack of memory.
_LESS_MEMORY = (
    "a smaller {batches}, which belongs to the settings of a run: where --output-dir has "
    "checkpoints already, name another one"
)


def stage_command(
    arguments: type[TrainArguments], name: str, module: str, about: str, free_batches: str = ""
) -> tuple[Callable[[TrainArguments], int], Main, Callable[[str], object]]:
    """Returns what the module ``llava.train.NAME`` of a stage has, without importing torch.

    Args:
        arguments: each field is a flag.
        name: of the stage.
        module: the module that does its work, in a function of that name.
        about: documentation of the command's module.
        free_batches: flag for the batch size of the work before the stage learns.

    Returns:
        The stage's function, the main function of the command, and ``__getattr__`` for the other
        names, which were in the command's module once.
    """

    def work(args: TrainArguments) -> int:
        return getattr(import_module(module), name)(args)

    advice = _LESS_MEMORY.format(batches="--micro-batch-size")
    if free_batches:
        advice = f"a smaller {free_batches}, or {advice}"
    program = f"llava.train.{name}"
    return work, command(arguments, work, program, about, advice), names_of(program, (module,))

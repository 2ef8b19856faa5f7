"""LLaVA's first stage, for the mini model: visual tokens aligned with words.

    python -m llava.train.train_projector --model-path ... --data ... --output ... --output-dir ...

The work of the stage is in llava.mini.stages.projector.
"""

from __future__ import annotations

import sys

from llava.mini.stages.arguments import ProjectorArguments
from llava.moved import names_of
from llava.train.command import run_stage

__getattr__ = names_of(
    __name__, ("llava.mini.stages.projector",)
)  # where the work of the stage is now


def train_projector(args: ProjectorArguments) -> int:
    """Runs the stage."""
    from llava.mini.stages.projector import train_projector

    return train_projector(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    description = __doc__.split("\n")[0]
    return run_stage(ProjectorArguments, train_projector, "train_projector", description, argv)


if __name__ == "__main__":
    sys.exit(main())

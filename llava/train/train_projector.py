"""LLaVA's first stage, for the mini model: visual tokens aligned with words.

    python -m llava.train.train_projector --model-path ... --data ... --output ... --output-dir ...

The work of the stage is in llava.train.stages.projector.
"""

from __future__ import annotations

import sys

from llava.train.command import run_stage
from llava.train.stages.arguments import ProjectorArguments


def train_projector(args: ProjectorArguments) -> int:
    """Runs the stage."""
    from llava.train.stages.projector import train_projector

    return train_projector(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    description = __doc__.split("\n")[0]
    return run_stage(ProjectorArguments, train_projector, "train_projector", description, argv)


if __name__ == "__main__":
    sys.exit(main())

"""LLaVA's second stage, for the mini model: projector and LLM learn to answer.

    python -m llava.train.train_llava --model-path ... --data ... --output ... --output-dir ...

The work of the stage is in llava.train.stages.llava.
"""

from __future__ import annotations

import sys

from llava.train.command import run_stage
from llava.train.stages.arguments import LlavaArguments


def train_llava(args: LlavaArguments) -> int:
    """Runs the stage."""
    from llava.train.stages.llava import train_llava

    return train_llava(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    description = __doc__.split("\n")[0]
    return run_stage(LlavaArguments, train_llava, "train_llava", description, argv)


if __name__ == "__main__":
    sys.exit(main())

"""LLaVA's second stage, for the mini model: projector and LLM learn to answer.

    python -m llava.train.train_llava --model-path ... --data ... --output ... --output-dir ...

The work of the stage is in llava.mini.stages.llava.
"""

from __future__ import annotations

import sys

from llava.mini.stages.arguments import LlavaArguments
from llava.moved import names_of
from llava.train.command import run_stage

__getattr__ = names_of(__name__, ("llava.mini.stages.llava",))  # where the work of the stage is now


def train_llava(args: LlavaArguments) -> int:
    """Runs the stage."""
    from llava.mini.stages.llava import train_llava

    return train_llava(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    description = __doc__.split("\n")[0]
    return run_stage(LlavaArguments, train_llava, "train_llava", description, argv)


if __name__ == "__main__":
    sys.exit(main())

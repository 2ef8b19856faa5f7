"""Caption model and selector together, taught by the LLM itself (arXiv 2508.01236).

    python -m llava.train.train_compensation --data llava_v1_5_mix665k.json --images ... ...

The work of the stage is in llava.train.stages.compensation.
"""

from __future__ import annotations

import sys

from llava.moved import names_of
from llava.train.command import run_stage
from llava.train.stages.arguments import CompensationArguments

__getattr__ = names_of(
    __name__, ("llava.train.stages.compensation",)
)  # where the work of the stage is now


def train_compensation(args: CompensationArguments) -> int:
    """Runs the stage."""
    from llava.train.stages.compensation import train_compensation

    return train_compensation(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    name, description = "train_compensation", __doc__.split("\n")[0]
    batches = "--answer-batch-size"
    return run_stage(CompensationArguments, train_compensation, name, description, argv, batches)


if __name__ == "__main__":
    sys.exit(main())

"""The selector, on questions where it matters which caption the LLM reads.

    python -m llava.train.train_selector --data llava_v1_5_mix665k.json --images ... --output ...

The work of the stage is in llava.train.stages.selector.
"""

from __future__ import annotations

import sys

from llava.moved import names_of
from llava.train.command import run_stage
from llava.train.stages.arguments import SelectorArguments

__getattr__ = names_of(
    __name__, ("llava.train.stages.selector",)
)  # where the work of the stage is now


def train_selector(args: SelectorArguments) -> int:
    """Runs the stage."""
    from llava.train.stages.selector import train_selector

    return train_selector(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    description, batches = __doc__.split("\n")[0], "--mining-batch-size"
    return run_stage(
        SelectorArguments, train_selector, "train_selector", description, argv, batches
    )


if __name__ == "__main__":
    sys.exit(main())

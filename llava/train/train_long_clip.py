"""LongCLIP's text tower of the mini model.

    python -m llava.train.train_long_clip --data ... --output longclip-L.pt --output-dir ...

The work of the stage is in llava.mini.stages.long_clip.
"""

from __future__ import annotations

import sys

from llava.mini.stages.arguments import LongClipArguments
from llava.moved import names_of
from llava.train.command import run_stage

__getattr__ = names_of(
    __name__, ("llava.mini.stages.long_clip",)
)  # where the work of the stage is now


def train_long_clip(args: LongClipArguments) -> int:
    """Runs the stage."""
    from llava.mini.stages.long_clip import train_long_clip

    return train_long_clip(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    description = __doc__.split("\n")[0]
    return run_stage(LongClipArguments, train_long_clip, "train_long_clip", description, argv)


if __name__ == "__main__":
    sys.exit(main())

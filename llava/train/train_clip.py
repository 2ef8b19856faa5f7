"""CLIP of the mini model: vision and text together, on drawn scenes.

The work of the stage is in llava.mini.stages.clip.
"""

from __future__ import annotations

import sys

from llava.mini.stages.arguments import ClipArguments
from llava.moved import names_of
from llava.train.command import run_stage

__getattr__ = names_of(__name__, ("llava.mini.stages.clip",))  # where the work of the stage is now


def train_clip(args: ClipArguments) -> int:
    """Runs the stage."""
    from llava.mini.stages.clip import train_clip

    return train_clip(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    description = __doc__.split("\n")[0]
    return run_stage(ClipArguments, train_clip, "train_clip", description, argv)


if __name__ == "__main__":
    sys.exit(main())

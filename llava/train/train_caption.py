"""Caption model and mapper on image-caption pairs: what pruning drops, in words.

    python -m llava.train.train_caption --captions captions_train2017.json --images train2017 ...

The work of the stage is in llava.train.stages.caption.
"""

from __future__ import annotations

import sys

from llava.moved import names_of
from llava.train.command import run_stage
from llava.train.stages.arguments import CaptionArguments

__getattr__ = names_of(
    __name__, ("llava.train.stages.caption",)
)  # where the work of the stage is now


def train_caption(args: CaptionArguments) -> int:
    """Runs the stage."""
    from llava.train.stages.caption import train_caption

    return train_caption(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    description = __doc__.split("\n")[0]
    return run_stage(CaptionArguments, train_caption, "train_caption", description, argv)


if __name__ == "__main__":
    sys.exit(main())

"""LongCLIP's text tower of the mini model."""

import sys

from llava.mini.stages.arguments import LongClipArguments
from llava.train.command import stage_command

train_long_clip, main, __getattr__ = stage_command(
    LongClipArguments, "train_long_clip", "llava.mini.stages.long_clip", __doc__
)

if __name__ == "__main__":
    sys.exit(main())

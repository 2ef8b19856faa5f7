"""CLIP of the mini model: vision and text together, on drawn scenes."""

import sys

from llava.mini.stages.arguments import ClipArguments
from llava.train.command import stage_command

train_clip, main, __getattr__ = stage_command(
    ClipArguments, "train_clip", "llava.mini.stages.clip", __doc__
)

if __name__ == "__main__":
    sys.exit(main())

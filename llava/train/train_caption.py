"""Caption model and mapper on image-caption pairs: what pruning drops, in words."""

import sys

from llava.train.command import stage_command
from llava.train.stages.arguments import CaptionArguments

train_caption, main, __getattr__ = stage_command(
    CaptionArguments, "train_caption", "llava.train.stages.caption", __doc__
)

if __name__ == "__main__":
    sys.exit(main())

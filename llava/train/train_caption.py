"""Caption model and mapper on image-caption pairs: what pruning drops, in words.

    python -m llava.train.train_caption --captions captions_train2017.json --images train2017 ...

The work of the stage is in llava.train.stages.caption.
"""

from __future__ import annotations

import sys

from llava.train.command import stage_command
from llava.train.stages.arguments import CaptionArguments

train_caption, main, __getattr__ = stage_command(
    CaptionArguments, "train_caption", "llava.train.stages.caption", __doc__
)

if __name__ == "__main__":
    sys.exit(main())

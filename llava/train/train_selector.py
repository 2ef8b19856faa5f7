"""The selector, on questions where it matters which caption the LLM reads.

    python -m llava.train.train_selector --data llava_v1_5_mix665k.json --images ... --output ...

The work of the stage is in llava.train.stages.selector.
"""

from __future__ import annotations

import sys

from llava.train.command import stage_command
from llava.train.stages.arguments import SelectorArguments

train_selector, main, __getattr__ = stage_command(
    SelectorArguments,
    "train_selector",
    "llava.train.stages.selector",
    __doc__,
    "--mining-batch-size",
)

if __name__ == "__main__":
    sys.exit(main())

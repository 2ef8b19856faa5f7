"""Caption model and selector together, taught by the LLM itself (arXiv 2508.01236).

    python -m llava.train.train_compensation --data llava_v1_5_mix665k.json --images ... ...

The work of the stage is in llava.train.stages.compensation.
"""

from __future__ import annotations

import sys

from llava.train.command import stage_command
from llava.train.stages.arguments import CompensationArguments

train_compensation, main, __getattr__ = stage_command(
    CompensationArguments,
    "train_compensation",
    "llava.train.stages.compensation",
    __doc__,
    "--answer-batch-size",
)

if __name__ == "__main__":
    sys.exit(main())

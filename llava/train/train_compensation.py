"""Caption model and selector together, taught by the LLM itself (arXiv 2508.01236)."""

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

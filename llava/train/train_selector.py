"""The selector, on questions where it matters which caption the LLM reads."""

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

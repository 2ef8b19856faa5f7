"""LLaVA's second stage, for the mini model: projector and LLM learn to answer."""

import sys

from llava.mini.stages.arguments import LlavaArguments
from llava.train.command import stage_command

train_llava, main, __getattr__ = stage_command(
    LlavaArguments, "train_llava", "llava.mini.stages.llava", __doc__
)

if __name__ == "__main__":
    sys.exit(main())

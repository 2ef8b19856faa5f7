"""LLaVA's first stage, for the mini model: visual tokens aligned with words."""

import sys

from llava.mini.stages.arguments import ProjectorArguments
from llava.train.command import stage_command

train_projector, main, __getattr__ = stage_command(
    ProjectorArguments, "train_projector", "llava.mini.stages.projector", __doc__
)

if __name__ == "__main__":
    sys.exit(main())

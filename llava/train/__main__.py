"""Runs a stage of training by its name: ``python -m llava.train STAGE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llava.command import STAGES, called, hand_on


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command: hands over to a stage, ``python -m llava.train.train_STAGE``."""
    words = list(sys.argv[1:] if argv is None else argv)
    title = "Trains a part of the method. scripts/v1_5/train has the settings of each."
    return hand_on(STAGES, words, called("llava.train"), title)


if __name__ == "__main__":
    sys.exit(main())

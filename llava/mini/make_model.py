"""Starts a mini model: ``python -m llava.mini.make_model --out DIR --seed S``.

DIR receives configurations and tokenizers in the files of the real checkpoints; the weights come
from the stages of llava.train, in the order of scripts/v1_5/train/mini.sh.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.arguments import flag
from llava.errors import UserError
from llava.utils.cli import command


@dataclass
class MakeModelArguments:
    """Flags of the command."""

    out: Optional[str] = flag("Folder of the model; made if it is not there.")
    seed: int = flag("Seed of the scenes that the tokenizers are learnt from.", 0)
    # Measured, not assumed: in this tower a question's patches are near it, not far from it.
    text_selection: str = flag("Which patches a question picks: farthest or nearest.", "nearest")


def make_model(args: MakeModelArguments) -> int:
    """Writes the folder."""
    if args.out is None:
        raise UserError("say where the model goes: --out FOLDER")
    if args.text_selection not in ("farthest", "nearest"):
        raise UserError(f"--text-selection {args.text_selection}: say farthest or nearest")
    from llava.mini.architecture import write_architecture

    write_architecture(Path(args.out), args.seed, args.text_selection)
    return 0


main = command(MakeModelArguments, make_model, "llava.mini.make_model", __doc__)

if __name__ == "__main__":
    sys.exit(main())

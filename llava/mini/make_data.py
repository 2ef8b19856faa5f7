"""Makes the mini world's data: ``python -m llava.mini.make_data --out DIR --seed S``.

``DIR/train`` holds the training data, ``DIR/eval`` the seven benchmarks under the names that
``--data-root DIR/eval`` looks for. A part appears when it is complete; the same command again does
nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Optional

from llava.arguments import flag
from llava.errors import UserError
from llava.files import read_json, system_errors, write_json
from llava.mini.benchmarks import SIZES, write_benchmarks
from llava.mini.training_set import write_training_set
from llava.utils.cli import command

PARTS = ("train", "eval")
_EVAL_SPLITS = ("validation", "test")
MOST_SCALE = 8
_MADE_WITH = "made_with.json"
_BEFORE = {"share": 1.0, "scale": 1}  # of data that are older than these flags


@dataclass
class MakeDataArguments:
    """Flags of the command."""

    out: Optional[str] = flag("Folder for the data; made if it is not there.")
    seed: int = flag("Seed of everything that is drawn.", 0)
    parts: str = flag("What to make: all, train or eval.", "all")
    train_images: int = flag("Training images.", 24000)
    split: str = flag("Scenes of the benchmarks: test or validation.", "test")
    share: float = flag("Size of the benchmarks, of what they have usually.", 1.0)
    scale: int = flag(
        "Pictures of so many times 96 pixels a side, with objects of the same size in pixels: at 2 "
        "they are too small for a tower that sees the whole picture at 96.",
        1,
    )
    processes: Optional[int] = flag("Processes that draw. Default: one for each core.")


def make_data(args: MakeDataArguments) -> int:
    """Makes the parts that are asked for and missing.

    Raises:
        UserError: a flag is not valid, or the folder has data of other flags, or it cannot
            be written.
    """
    out = _checked_folder(args)
    processes = args.processes or os.cpu_count() or 1
    # Each benchmark has at least one pair of questions.
    sizes = {name: max(2, round(args.share * size)) for name, size in SIZES.items()}
    writers: dict[str, Callable[[Path], None]] = {
        "train": partial(
            write_training_set,
            seed=args.seed,
            images=args.train_images,
            processes=processes,
            scale=args.scale,
        ),
        "eval": partial(
            write_benchmarks, seed=args.seed, split=args.split, sizes=sizes, scale=args.scale
        ),
    }
    settings: dict[str, dict] = {
        "train": {"seed": args.seed, "train_images": args.train_images, "scale": args.scale},
        "eval": {
            "seed": args.seed,
            "split": args.split,
            "share": args.share,
            "scale": args.scale,
        },
    }
    asked = PARTS if args.parts == "all" else (args.parts,)
    for part in PARTS:
        # Data of two seeds in one folder would be taken for one world.
        known = settings[part] if part in asked else {"seed": args.seed, "scale": args.scale}
        _check_made(out / part, known)
    for part in asked:
        if (out / part).exists():
            print(f"{out / part} is there already")
        else:
            _make(out / part, settings[part], writers[part])
    return 0


def _checked_folder(args: MakeDataArguments) -> Path:
    if args.out is None:
        raise UserError("say where the data go: --out FOLDER")
    if args.parts not in ("all", *PARTS):
        raise UserError(f"--parts {args.parts}: say all, {' or '.join(PARTS)}")
    if args.split not in _EVAL_SPLITS:
        raise UserError(f"--split {args.split}: say {' or '.join(_EVAL_SPLITS)}")
    for name in ("train_images", "processes"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: say 1 or more")
    if not 0 < args.share <= 1:
        raise UserError(f"--share {args.share}: say more than 0, and at most 1")
    if not 1 <= args.scale <= MOST_SCALE:
        raise UserError(f"--scale {args.scale}: say a number from 1 to {MOST_SCALE}")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: say 0 or more")
    return Path(args.out)


def _check_made(folder: Path, settings: dict) -> None:
    if not folder.exists():
        return
    if not (folder / _MADE_WITH).is_file():
        raise UserError(
            f"{folder} is there, but was not made by this command: choose another --out"
        )
    made_with = _BEFORE | read_json(folder / _MADE_WITH)
    for name, value in settings.items():
        if made_with.get(name) != value:
            raise UserError(
                f"{folder} was made with {name} {made_with.get(name)}, not {value}: choose another "
                "--out, or remove it"
            )


def _make(folder: Path, settings: dict, write: Callable[[Path], None]) -> None:
    """Writes a part beside its place and moves it there when it is complete."""
    partial_folder = folder.with_name(folder.name + ".partial")
    with system_errors(f"write {folder}", "write elsewhere"):
        if partial_folder.exists():  # left by a run that was stopped
            shutil.rmtree(partial_folder)
        partial_folder.mkdir(parents=True)
        write(partial_folder)
        write_json(partial_folder / _MADE_WITH, settings)
        os.replace(partial_folder, folder)


main = command(MakeDataArguments, make_data, "llava.mini.make_data", __doc__)

if __name__ == "__main__":
    sys.exit(main())

"""Starts a mini LLaVA-NeXT from a mini LLaVA-1.5: ``python -m llava.mini.make_next --out DIR``.

DIR receives all parts of the model, and a config.json by which images are read in tiles. The LLM
learns to read these in train_llava, and the parts of ACCM then learn from it; see
scripts/v1_5/train/mini_next.sh.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.arguments import flag
from llava.errors import UserError
from llava.files import read_json, system_errors, write_json
from llava.utils.cli import command

# What is not a part of the model, or knows only pictures of one view.
_LEFT_OUT = ("README.md", "scores.json", "training.json", "checkpoint0104*", ".*")
# The sides of its pictures in views: as in LLaVA-NeXT, up to four tiles.
_TILES = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))


@dataclass
class MakeNextArguments:
    """Flags of the command."""

    model_path: str = flag("The mini LLaVA-1.5 to start from.", "checkpoints/accm-mini")
    out: Optional[str] = flag("Folder of the model; made if it is not there.")


def make_next(args: MakeNextArguments) -> int:
    """Writes the folder."""
    if args.out is None:
        raise UserError("say where the model goes: --out FOLDER")
    from llava.model.loading.configs import clip_config, read_config

    source, folder = Path(args.model_path), Path(args.out)
    config = read_json(source / "config.json")
    tower = source / str(config.get("mm_vision_tower"))
    size = clip_config(read_config(tower), str(tower)).vision_config.image_size
    if folder.exists():
        raise UserError(f"{folder} is there: name another --out, or remove it")
    partial = folder.with_name(f"{folder.name}.partial")  # takes its name when it is complete
    with system_errors(f"write {folder}", "write elsewhere"):
        if partial.exists():
            shutil.rmtree(partial)
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        tiled = dict(
            image_aspect_ratio="anyres",
            mm_patch_merge_type="spatial_unpad",
            accm_described_views="all",
            image_grid_pinpoints=[[rows * size, columns * size] for rows, columns in _TILES],
        )
        write_json(partial / "config.json", config | tiled)
        partial.rename(folder)
    return 0


main = command(MakeNextArguments, make_next, "llava.mini.make_next", __doc__)

if __name__ == "__main__":
    sys.exit(main())

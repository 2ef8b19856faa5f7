"""Getting the weights right: ``python -m llava.checkpoints download|verify|convert``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.checkpoints.convert import convert
from llava.checkpoints.download import download, plan
from llava.checkpoints.verify import verify
from llava.errors import UserError
from llava.eval.command import SOME_FAILED, USER_MISTAKE, run_command
from llava.model.builder import ModelArguments, flag

PROGRAM = "llava.checkpoints"


@dataclass
class DownloadArguments:
    """Flags of download; the names come before them."""

    checkpoints_root: str = flag("Folder where checkpoints go.", "checkpoints")


@dataclass
class ConvertArguments:
    """Flags of convert; the folder comes before them."""

    output: Optional[str] = flag("Folder for the safetensors files.")
    dtype: Optional[str] = flag("float16, bfloat16 or float32. Default: as each tensor is.")


def _download(names: Sequence[str], args: DownloadArguments) -> int:
    wanted = plan(names)
    root = Path(args.checkpoints_root)
    for one in wanted:
        print(
            f"{one.repository} -> {root / one.target}: about {one.gigabytes:g} GB, "
            f"licence: {one.licence}"
        )
    for one in wanted:
        print(f"there: {download(one, root)}", flush=True)
    return 0


def _verify(words: Sequence[str], args: ModelArguments) -> int:
    if words or args.model_path is None:
        raise UserError("say which model: verify --model-path FOLDER")
    bad = 0
    for verdict in verify(args):
        bad += verdict.problem is not None
        print(verdict, flush=True)
    return SOME_FAILED if bad else 0


def _convert(words: Sequence[str], args: ConvertArguments) -> int:
    if len(words) != 1 or args.output is None:
        raise UserError("say what and where to: convert FOLDER --output FOLDER")
    files = convert(Path(words[0]), Path(args.output), args.dtype)
    print(f"{len(files)} files of weights in {args.output}")
    return 0


_COMMANDS = {
    "download": (DownloadArguments, _download),
    "verify": (ModelArguments, _verify),
    "convert": (ConvertArguments, _convert),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in _COMMANDS:
        print(f"error: say what to do, one of: {', '.join(_COMMANDS)}", file=sys.stderr)
        return USER_MISTAKE
    arguments, work = _COMMANDS[words[0]]
    rest = words[1:]
    first_flag = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    return run_command(
        arguments,
        lambda args: work(rest[:first_flag], args),
        f"{PROGRAM} {words[0]}",
        __doc__,
        rest[first_flag:],
    )


if __name__ == "__main__":
    sys.exit(main())

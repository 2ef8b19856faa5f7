"""Getting the weights right: ``python -m llava.checkpoints download|verify|convert``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Optional

from llava.arguments import ModelArguments, flag, path_flag
from llava.checkpoints.download import download, plan
from llava.download.errors import free_gigabytes
from llava.download.line import USUAL, Network
from llava.errors import UserError
from llava.utils.cli import SOME_FAILED, run_words_command


@dataclass
class DownloadArguments:
    """Flags of download; the names come before them."""

    checkpoints_root: str = path_flag("Folder where checkpoints go.", "checkpoints")
    dry_run: bool = flag("Say what would be fetched, and fetch nothing.", False)


@dataclass
class ConvertArguments:
    """Flags of convert; the folder comes before them."""

    output: Optional[str] = flag("Folder for the safetensors files.")
    part: str = flag(
        "all (every tensor as it is called), or llm (the LLM alone, as a plain Llama folder for "
        "another engine).",
        "all",
        choices=("all", "llm"),
    )
    dtype: Optional[str] = flag(
        "Of all tensors. Default: as each is.", choices=("float32", "float16", "bfloat16")
    )


def _download(network: Network, names: Sequence[str], args: DownloadArguments) -> int:
    wanted = plan(names)
    root = Path(args.checkpoints_root)
    for one in wanted:
        print(
            f"{one.repository} -> {root / one.target}: about {one.gigabytes:g} GB, "
            f"licence: {one.licence}"
        )
    total = sum(one.gigabytes for one in wanted)
    print(f"about {total:.1f} GB in all, {free_gigabytes(root):.1f} GB free", flush=True)
    for one in [] if args.dry_run else wanted:
        files = download(one, root, network)
        print(f"there: {one.repository}, {len(files)} files as on the hub", flush=True)
    return 0


def _verify(words: Sequence[str], args: ModelArguments) -> int:
    if words or args.model_path is None:
        raise UserError("say which model: verify --model-path FOLDER")
    from llava.checkpoints.verify import verify  # with it come torch and all models: seconds

    bad = 0
    for verdict in verify(args):
        bad += verdict.problem is not None
        print(verdict, flush=True)
    return SOME_FAILED if bad else 0


def _convert(words: Sequence[str], args: ConvertArguments) -> int:
    if len(words) != 1 or args.output is None:
        raise UserError("say what and where to: convert FOLDER --output FOLDER")
    if args.part not in ("all", "llm"):
        raise UserError(f"--part is {args.part!r}: all or llm")
    from llava.checkpoints.convert import convert  # with it comes torch: seconds
    from llava.checkpoints.llm import convert_llm

    work = convert_llm if args.part == "llm" else convert
    files = work(Path(words[0]), Path(args.output), args.dtype)
    print(f"{len(files)} files of weights in {args.output}")
    return 0


def main(argv: Sequence[str] | None = None, network: Network = USUAL) -> int:
    """Runs the command; returns the exit status.

    Args:
        argv: the command line; None takes the process's.
        network: as of download.
    """
    commands: dict[str, tuple[type, Callable]] = {
        "download": (DownloadArguments, partial(_download, network)),
        "verify": (ModelArguments, _verify),
        "convert": (ConvertArguments, _convert),
    }
    return run_words_command(commands, "llava.checkpoints", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())

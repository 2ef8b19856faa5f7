"""LLaVA's command for one question: ``python -m llava.eval.run_llava``.

``eval_model`` is what LLaVA's README calls.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.arguments import DecodingArguments, PrunerArguments, budget_flag, flag
from llava.budgets import AskedBudget
from llava.errors import UserError, shown
from llava.eval.llava_commands import OneValueArguments, check_one_value
from llava.image_url import open_image
from llava.method import DEFAULT_SEED
from llava.utils.cli import command

_PLACEHOLDER = "<image-placeholder>"  # in a query of LLaVA, the place of the image


@dataclass
class RunLlavaArguments(OneValueArguments, DecodingArguments, PrunerArguments):
    """Flags of the command."""

    image_file: str = flag("The image: a file, or a URL.")
    query: str = flag("What is asked about it.")
    sep: str = flag("What would stand between several images; one is supported.", ",")
    max_new_tokens: int = flag("Longest answer in tokens.", 512)
    visual_token_num: Optional[AskedBudget] = budget_flag("Visual tokens to keep.")
    seed: int = flag("Seed of the random draws.", DEFAULT_SEED)


def eval_model(args: object) -> None:
    """Answers a question about an image, and prints the answer.

    Args:
        args: LLaVA's: any object with model_path, image_file and query, and other fields of
            RunLlavaArguments. Further attributes, like LLaVA's model_name, are ignored.

    Raises:
        UserError: a value is missing or not supported, or the model or image cannot be read.
    """
    names = [field.name for field in dataclasses.fields(RunLlavaArguments)]
    given = {name: getattr(args, name) for name in names if hasattr(args, name)}
    print(_answer(RunLlavaArguments(**given)))


def _answer(args: RunLlavaArguments) -> str:
    """Returns the answer."""
    check_one_value(args)
    args.check_decoding()
    for name in ("model_path", "image_file", "query"):
        if getattr(args, name) is None:
            raise UserError(f"give --{name.replace('_', '-')}")
    if args.sep and args.sep in str(args.image_file):
        raise UserError(
            f"--image-file is {shown(str(args.image_file))}, several images by --sep {args.sep!r}:"
            " a question is about one here; name one, or another --sep where the name has this"
            " in it"
        )
    if _PLACEHOLDER in args.query:
        raise UserError(f"--query holds {_PLACEHOLDER}: the image stands before it; take it out")
    from llava.model.builder import load_from_arguments
    from llava.model.sample import Sample

    image = open_image(args.image_file)  # fails before the model is loaded
    sample = Sample(
        image,
        args.query,
        visual_token_num=args.visual_token_num,
        seed=args.seed,
        max_new_tokens=args.max_new_tokens,
        image_name=Path(args.image_file).name,
        pruner=args.pruner,
        pruner_options=args.pruner_options,
        view_split=args.view_split,
        **args.decoding(),
    )
    (answer,) = load_from_arguments(args).answer([sample])
    return answer.text


def run(args: RunLlavaArguments) -> int:
    """Answers the question of the flags."""
    eval_model(args)
    return 0


main = command(RunLlavaArguments, run, "llava.eval.run_llava", __doc__)

if __name__ == "__main__":
    sys.exit(main())

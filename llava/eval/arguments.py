"""Flags of commands that ask questions, and the checks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from llava.arguments import AskArguments, DecodingArguments, flag
from llava.compensations import CAPTIONS, NOTHING
from llava.errors import UserError
from llava.method import (
    ALL_TOKENS,
    DEFAULT_MAX_NEW_TOKENS,
    DEFAULT_PRUNER,
    DEFAULT_SEED,
    NO_TOKENS,
)


@dataclass
class TraceArguments(DecodingArguments, AskArguments):
    """Flags of the command."""

    image: Optional[str] = flag("An image, a file or a URL (one question).")
    question: Optional[str] = flag("What follows the image in the prompt (one question).")
    tower_question: Optional[str] = flag(
        "What text tower, caption model and selector read. Default: the question's first line."
    )
    requests: Optional[str] = flag(
        "Many questions: a file of JSON lines with id, image, question and optionally "
        "tower_question, pruner, pruner_options (values by name), view_split, visual_token_num, "
        "text_token_num, seed, max_new_tokens, no_image, temperature, top_p, num_beams. "
        "Image paths are absolute, or relative to that file. What a line leaves out, the flags say."
    )
    output: Optional[str] = flag("Where the JSON lines go. One question: default standard output.")
    figure: Optional[str] = flag(
        "A picture of what was kept, written and answered, in the format of its ending (one "
        "question)."
    )
    max_new_tokens: int = flag("Longest answer in tokens.", DEFAULT_MAX_NEW_TOKENS)
    seed: int = flag("Seed of the random draws of each question.", DEFAULT_SEED)


def check_method(args: AskArguments) -> None:
    """Refuses an unknown pruner, and flags for choosing visual tokens that it does not use.

    Raises:
        UserError: the flag cannot be used; the message names it.
    """
    from llava.model.token_pruning.registry import find_pruner, resolved  # torch comes with it

    pruner = find_pruner(args.pruner)
    given = {
        "--text-token-num": args.text_token_num is not None,
        "--pruner": pruner.name != DEFAULT_PRUNER,
        "--pruner-options": bool(args.pruner_options),
        "--view-split": args.view_split is not None,
    }
    for name, is_given in given.items():
        if args.no_image and is_given:
            raise UserError(
                f"{name} has no effect with --no-image, which keeps no visual token: leave one of "
                "the two out"
            )
    resolved(args.method)
    args.check_compensation()
    kept_by = {ALL_TOKENS: "keeps all visual tokens", NO_TOKENS: "keeps no visual token"}
    kept = kept_by.get(pruner.name)
    if kept is not None and args.visual_token_num is not None:
        raise UserError(
            f"--visual-token-num has no effect with --pruner {pruner.name}, which {kept}: leave one"
            " of the two out"
        )
    where = "--no-image" if args.no_image else f"--pruner {pruner.name}"
    if (kept or args.no_image) and args.compensation_name not in (CAPTIONS, NOTHING):
        raise UserError(
            f"--compensation {args.compensation_name} has no effect with {where}, where no token "
            "is dropped from what the LLM reads: leave one of the two out"
        )
    if args.text_token_num is not None and "text_token_num" not in pruner.option_names:
        raise UserError(
            f"--text-token-num has no effect with --pruner {pruner.name}, in which the question "
            "picks no tokens: leave one of the two out"
        )

"""Flags that every command which asks questions has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, TypeVar

from llava.errors import UserError
from llava.method import DEFAULT_PRUNER, DEFAULT_SEED
from llava.model.builder import ModelArguments, flag, placement
from llava.model.language_model.decoding import Decoding
from llava.model.multimodal_encoder.clip_encoder import VISUAL_TOKEN_NUM
from llava.model.token_pruning.registry import find_pruner

Asking = TypeVar("Asking", bound="AskArguments")


def budget_flag(help: str) -> object:
    """Returns the field of a dataclass for a budget whose default is VISUAL_TOKEN_NUM."""
    return flag(
        f"{help} Default: {VISUAL_TOKEN_NUM} (VISUAL_TOKEN_NUM in "
        "llava/model/multimodal_encoder/clip_encoder.py)."
    )


@dataclass
class AskArguments(ModelArguments):
    """With how many tokens, and how, a model is asked."""

    pruner: str = flag(
        "What chooses the visual tokens: accm, or one of the controls that read neither image nor "
        "question (random, uniform, pool), none (keeps all) or zero (keeps none).",
        DEFAULT_PRUNER,
    )
    visual_token_num: Optional[int] = budget_flag("Visual tokens to keep.")
    text_token_num: Optional[int] = flag(
        "Tokens that the question picks. Default: the paper's number for this budget."
    )
    seed: int = flag("Seed of the one random draw of each question.", DEFAULT_SEED)
    batch_size: int = flag("Questions at once.", 8)
    no_image: bool = flag("Ask without any visual token or caption: the floor.", False)

    def without_unused_parts(self: Asking) -> Asking:
        """Returns the flags that do not ask for captions where no image is shown, so that what
        writes captions is neither loaded nor asked whether it can read the question."""
        drops_some = not self.no_image and self.pruner not in ("none", "zero")
        return replace(self, compensation=self.compensation and drops_some)


@dataclass
class DecodingArguments(ModelArguments):
    """How the tokens of an answer are chosen. Benchmarks take the likeliest each time."""

    temperature: float = flag(
        "0 takes the likeliest token each time; above, tokens are drawn, the more freely the "
        "higher it is.",
        0.0,
    )
    top_p: Optional[float] = flag(
        "Draw from the likeliest tokens only that together have this probability (with a "
        "--temperature). Default: from all."
    )
    num_beams: int = flag("Search for the likeliest answer with so many beams.", 1)

    def check_decoding(self) -> None:
        """Refuses settings without a meaning or an effect, before a model is loaded.

        Raises:
            UserError: names the setting, and what may be given.
        """
        Decoding(**self.decoding()).check(self.compile)

    def decoding(self) -> dict[str, object]:
        """Returns the settings by the names that Sample, Request, Chat and Decoding have for
        them."""
        return {name: getattr(self, name) for name in ("temperature", "top_p", "num_beams")}


def check_device_map(args: ModelArguments) -> None:
    """Refuses to spread the LLM over GPUs where it was to stay off them, or there are none.

    Raises:
        UserError: says so.
    """
    if args.device_map is not None and placement(args).device.type == "cpu":
        raise UserError(
            f"--device-map {args.device_map} spreads the LLM over GPUs, and --device {args.device} "
            "is the CPU: leave one of the two out"
        )


def check_method(args: AskArguments) -> None:
    """Refuses a pruner that there is none of, and flags that say which visual tokens stay where
    that is not theirs to say.

    Raises:
        UserError: names the flag.
    """
    pruner = find_pruner(args.pruner)
    is_other = pruner.name != DEFAULT_PRUNER
    given = {"--text-token-num": args.text_token_num is not None, "--pruner": is_other}
    for name, is_given in given.items():
        if args.no_image and is_given:
            raise UserError(
                f"{name} has no effect with --no-image, which keeps no visual token: leave one of "
                "the two out"
            )
    kept = {"none": "keeps all visual tokens", "zero": "keeps no visual token"}.get(pruner.name)
    if kept is not None and args.visual_token_num is not None:
        raise UserError(
            f"--visual-token-num has no effect with --pruner {pruner.name}, which {kept}: leave one "
            "of the two out"
        )
    if is_other and args.text_token_num is not None:
        raise UserError(
            f"--text-token-num has no effect with --pruner {pruner.name}, in which the question "
            "picks no tokens: leave one of the two out"
        )

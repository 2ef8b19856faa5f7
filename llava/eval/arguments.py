"""Flags that every command which asks questions has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, TypeVar

from llava.errors import UserError
from llava.model.builder import ModelArguments, flag, placement
from llava.model.language_model.decoding import Decoding
from llava.model.multimodal_encoder.clip_encoder import VISUAL_TOKEN_NUM
from llava.model.sample import DEFAULT_SEED

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
        return replace(self, compensation=self.compensation and not self.no_image)


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


def check_no_image(args: AskArguments) -> None:
    """Refuses flags that say which visual tokens stay where there are none.

    Raises:
        UserError: names the flag.
    """
    if args.no_image and args.text_token_num is not None:
        raise UserError(
            "--text-token-num has no effect with --no-image, which keeps no visual token: leave "
            "one of the two out"
        )

"""How a question is asked: one record that samples, requests and flags share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

DEFAULT_SEED = 42
DEFAULT_PRUNER = "accm"
ALL_TOKENS, NO_TOKENS = "none", "zero"  # the pruners that keep every token, and no token
DEFAULT_MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class Method:
    """The part of an image that the LLM reads.

    Attributes:
        visual_token_num: K, how many are kept; None takes VISUAL_TOKEN_NUM of clip_encoder.py.
        text_token_num: T, how many of them ACCM selects by the question; None takes the paper's
            share of K (budget.py).
        seed: seed of the random draws (of patches; with a temperature, of answer tokens), so that a
            result depends only on its question.
        no_image: no visual token and no caption: the floor to compare with, since such answers need
            no image. The same as the pruner "zero".
        pruner: chooses the visual tokens; a name in llava.model.token_pruning.registry.
    """

    visual_token_num: int | None = None
    text_token_num: int | None = None
    seed: int = DEFAULT_SEED
    no_image: bool = False
    pruner: str = DEFAULT_PRUNER

    @property
    def sees_nothing(self) -> bool:
        """Whether the LLM reads no visual token of the image."""
        return self.no_image or self.pruner == NO_TOKENS


def method_of(asked: object) -> dict[str, Any]:
    """Returns the fields of Method from flags, a request or a sample, as keyword arguments."""
    return {field.name: getattr(asked, field.name) for field in fields(Method)}


def label_of(method: Method, has_captions: bool, budget: int, num_patches: int) -> str:
    """Returns the name of a method in a report.

    Args:
        method: how a run asks.
        has_captions: whether dropped tokens are compensated.
        budget: the number of kept visual tokens.
        num_patches: the number of all.
    """
    if method.sees_nothing:
        return "no image"
    if budget == num_patches:
        return "full"
    if method.pruner == DEFAULT_PRUNER:
        return "accm" if has_captions else "prune"
    return f"{method.pruner} with captions" if has_captions else method.pruner

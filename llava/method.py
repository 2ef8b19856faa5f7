"""How a question is asked: one record that samples, requests and flags have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields

DEFAULT_SEED = 42
DEFAULT_PRUNER = "accm"
DEFAULT_MAX_NEW_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class Method:
    """What the LLM gets to read of an image.

    Attributes:
        pruner: chooses the visual tokens; a name in llava.model.token_pruning.registry.
        visual_token_num: K, how many stay; None takes VISUAL_TOKEN_NUM of clip_encoder.py.
        text_token_num: T, how many of them ACCM lets the question pick; None takes the paper's
            share of K (budget.py).
        no_image: no visual token and no caption: what can be answered so needs no image, and is the
            floor to compare with. The same as the pruner "zero".
        seed: of the random draws (of patches; with a temperature, of answer tokens), so that a
            result depends on nothing but its question.
    """

    pruner: str = DEFAULT_PRUNER
    visual_token_num: int | None = None
    text_token_num: int | None = None
    no_image: bool = False
    seed: int = DEFAULT_SEED


def method_of(asked: object) -> dict[str, object]:
    """Returns the fields of a Method that anything has which is asked with one (flags, a request,
    a sample), to be handed on by name."""
    return {field.name: getattr(asked, field.name) for field in fields(Method)}

"""How a question is asked: one record that samples, requests and flags have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields

DEFAULT_SEED = 42
DEFAULT_PRUNER = "accm"


@dataclass(frozen=True)
class Method:
    """What the LLM gets to read of an image.

    Attributes:
        visual_token_num: K, how many stay; None takes VISUAL_TOKEN_NUM of clip_encoder.py.
        text_token_num: T, how many of them ACCM lets the question pick; None takes the paper's
            share of K (budget.py).
        seed: of the random draws (of patches; with a temperature, of answer tokens), so that a
            result depends on nothing but its question.
        no_image: no visual token and no caption: what can be answered so needs no image, and is the
            floor to compare with. The same as the pruner "zero".
        pruner: chooses the visual tokens; a name in llava.model.token_pruning.registry.
    """

    visual_token_num: int | None = None
    text_token_num: int | None = None
    seed: int = DEFAULT_SEED
    no_image: bool = False
    pruner: str = DEFAULT_PRUNER


def method_of(asked: object) -> dict[str, object]:
    """Returns the fields of a Method that anything has which is asked with one (flags, a request,
    a sample), to be handed on by name."""
    return {field.name: getattr(asked, field.name) for field in fields(Method)}

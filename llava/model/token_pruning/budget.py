"""The budget: the number of kept tokens, and the number that the question picks.

The default of the first is VISUAL_TOKEN_NUM in llava.model.multimodal_encoder.clip_encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llava.errors import UserError

# Visual tokens K -> tokens picked by the question T, as the paper sets them.
PAPER_BUDGETS = {18: 12, 36: 20, 72: 40, 144: 70, 288: 150}


@dataclass(frozen=True)
class Budget:
    """K visual tokens to keep, T of them (at most) picked by the question."""

    visual_token_num: int
    text_token_num: int


def default_text_token_num(visual_token_num: int) -> int:
    """Returns T for any K: the paper's value, or linear interpolation between its neighbours.

    Below the smallest of the paper's budgets the line goes through the origin; above the largest
    the share stays constant. Rounded to the nearest whole number, halves up, at least 1.
    """
    known = sorted(PAPER_BUDGETS)
    largest = known[-1]
    if visual_token_num > largest:
        exact = visual_token_num * PAPER_BUDGETS[largest] / largest
    else:
        values = [PAPER_BUDGETS[k] for k in known]
        exact = np.interp(visual_token_num, [0, *known], [0, *values])
    return max(1, int(exact + 0.5))


def resolve_budget(visual_token_num: int, text_token_num: int | None, num_patches: int) -> Budget:
    """Checks a budget against an image of num_patches patches and fills in T.

    Raises:
        UserError: K is not a whole number from 1 to N, or T not one from 0 to N.
    """
    check_tokens("visual_token_num", visual_token_num, 1, num_patches)
    if text_token_num is None:
        text_token_num = min(default_text_token_num(visual_token_num), num_patches)
    check_tokens("text_token_num", text_token_num, 0, num_patches)
    return Budget(visual_token_num, text_token_num)


def check_tokens(name: str, value: object, low: int, high: int) -> int:
    """Returns a number of tokens of an image.

    Raises:
        UserError: it is not a whole number from low to high; the message begins with the name.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(
            f"{name} is {value!r}; it must be a whole number from {low} to {high}, the number of "
            "patches of an image"
        )
    return value

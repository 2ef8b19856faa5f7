"""The budget: the number of kept tokens, and the number that the question picks.

The default of the first is VISUAL_TOKEN_NUM in llava.model.multimodal_encoder.clip_encoder.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from llava.budgets import count_kept
from llava.errors import UserError, quoted

# Visual tokens K -> tokens picked by the question T, as the paper sets them.
PAPER_BUDGETS = {18: 12, 36: 20, 72: 40, 144: 70, 288: 150}
_SHARE = ", or a share of them such as 1/9 or 11%, or all"  # what else may be asked for


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


def resolve_budget(
    visual_token_num: object,
    text_token_num: int | None,
    num_patches: int,
    most: int | None = None,
) -> Budget:
    """Checks a budget against an image of num_patches patches and fills in T.

    A number above N, but not above that of the largest image, keeps all N.

    Args:
        visual_token_num: K, or a share of N; see llava.budgets.
        text_token_num: T; None takes the paper's.
        num_patches: N of the image.
        most: the largest N of any image of the model; None if all images have the same N.

    Raises:
        UserError: K is not a whole number from 1 to the largest N and no share, or T not one from
            0 to the largest N.
    """
    most = num_patches if most is None else most
    wanted, name = visual_token_num, "visual_token_num"
    if isinstance(wanted, str):
        with suppress(ValueError):
            wanted = count_kept(wanted, num_patches)
    kept = min(check_tokens(name, wanted, 1, most, _SHARE), num_patches)
    if text_token_num is None:
        text_token_num = default_text_token_num(kept)
    check_tokens("text_token_num", text_token_num, 0, most)
    return Budget(kept, min(text_token_num, num_patches))


def check_tokens(name: str, value: object, low: int, high: int, other: str = "") -> int:
    """Returns a number of tokens of an image.

    Args:
        name: of the number, which the message begins with.
        value: unchecked.
        low, high: the smallest and the largest number.
        other: what else would be possible; ends the message.

    Raises:
        UserError: it is not a whole number from low to high.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(
            f"{name} is {quoted(value)}; it must be a whole number from {low} to {high}, the "
            f"number of patches of an image{other}"
        )
    return value

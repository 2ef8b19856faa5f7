"""Budgets of visual tokens as they are asked for: a number, a share of an image's tokens, or all.

A share is a number of tokens only where the image is known, for images may differ in their N.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Union

AskedBudget = Union[int, str]  # 36, "1/9", "11%", "0.25" or EVERY
EVERY = "all"
BUDGET = "a whole number, a share such as 1/9 or 11%, or all"  # in messages

_LONGEST = 20  # characters; Python refuses numbers of 5,000 digits
_NUMBER = re.compile("-?[0-9]+")
_SHARE = re.compile(r"([0-9]+/[0-9]*[1-9][0-9]*|[0-9]*\.[0-9]+)|([0-9]+(?:\.[0-9]+)?)%")


def read_budget(word: str) -> AskedBudget:
    """Returns a budget from a word of a command line, a file or a chat; blanks do not count.

    Whether a number is possible depends on the image: it is checked where the image is known.

    Raises:
        ValueError: it is neither a whole number, nor a share above 0 and up to 1, nor EVERY.
    """
    text = "".join(word.split())
    if len(text) <= _LONGEST and _NUMBER.fullmatch(text):
        return int(text)
    _share_of(text)
    return text


def count_kept(budget: AskedBudget, num_tokens: int) -> int:
    """Returns the number K of an image's N visual tokens that a budget keeps.

    A share is rounded to the nearest whole number, halves up, and is at least 1. A number stays as
    it is.

    Args:
        budget: as it is asked for.
        num_tokens: N.

    Raises:
        ValueError: it is a text that is neither a share nor EVERY.
    """
    if not isinstance(budget, str):
        return budget
    return max(1, int(_share_of(budget) * num_tokens + Fraction(1, 2)))


def file_word(budget: AskedBudget) -> str:
    """Returns a budget as a part of a file's name: 36, 1of9, 11pct or all."""
    return str(budget).replace("/", "of").replace("%", "pct")


def _share_of(text: str) -> Fraction:
    """Returns the share that a text is.

    Raises:
        ValueError: it is none, or not above 0 and up to 1.
    """
    if text == EVERY:
        return Fraction(1)
    match = _SHARE.fullmatch(text) if len(text) <= _LONGEST else None
    share = Fraction(0)
    if match is not None:
        share = Fraction(match[1]) if match[1] else Fraction(match[2]) / 100
    if not 0 < share <= 1:
        raise ValueError(text)
    return share

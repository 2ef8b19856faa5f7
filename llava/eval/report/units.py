"""Amounts in words: operations, seconds, bytes and differences."""

from __future__ import annotations

import math

from llava.eval.cost import Cost
from llava.eval.report.statistics import Sampled


def operations_text(count: float | None) -> str:
    """Returns a number of operations with its prefix; a dash if it is not known."""
    if count is None:
        return "-"
    for power, prefix in ((12, "T"), (9, "G"), (6, "M")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {prefix}FLOP"
    return f"{count:.0f} FLOP"


def seconds_text(seconds: float | None) -> str:
    """Returns a time in seconds or milliseconds; a dash if it is not known."""
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def spread_text(cost: Cost) -> str:
    """Returns how far the rounds of a measured time are from each other."""
    return f"± {100 * cost.spread:.0f}%"


def bytes_text(count: int | None) -> str:
    """Returns an amount of memory in MiB; a dash if it is not known."""
    return "-" if count is None else f"{count / 2**20:,.0f} MiB"


def points_text(sampled: Sampled | None) -> tuple[str, str]:
    """Returns a difference of shares in points of per cent, and its interval."""
    if sampled is None:
        return "-", ""
    ends = [_signed(end) if math.isfinite(end) else "none" for end in (sampled.low, sampled.high)]
    return _signed(sampled.value), f"[{', '.join(ends)}]"


def _signed(share: float) -> str:
    """Returns a share in points of per cent with its sign; what rounds to zero has none."""
    points = round(100 * share, 1)
    return f"{points:+.1f}" if points else "0.0"

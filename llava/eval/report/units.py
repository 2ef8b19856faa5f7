"""Amounts in words: scores, shares, tokens, operations, seconds, bytes and differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llava.eval.cost import Cost
from llava.eval.report.comparison import Row
from llava.eval.report.runs import UNBOUNDED, budget_text
from llava.eval.report.statistics import Sampled


@dataclass(frozen=True)
class Own:
    """The form in which papers print a benchmark's main number.

    Attributes:
        heading: its usual name and unit.
        short: the same with the benchmark's name, for a narrow column.
        times: factor from the number in a result file to that unit.
    """

    heading: str
    short: str
    times: float

    def text(self, value: float | None) -> str:
        """Returns the number of a result file as printed."""
        return "-" if value is None else f"{self.times * value:.1f}"


OWN = {
    "mme": Own("total, points of 2,800", "MME, points", 1),
    "mmbench": Own("circular accuracy, %", "MMBench, %", 100),
    "pope": Own("F1, %", "POPE F1, %", 100),
    "mmvp": Own("both of a pair right, %", "MMVP pairs, %", 1),
    "seed": Own("accuracy, %", "SEED, %", 1),
    "gqa": Own("accuracy, %", "GQA, %", 1),
    "flickr": Own("CIDEr x 100", "CIDEr x 100", 100),
}


def score_heading(benchmark: str) -> str:
    """Returns the name of the mean score of a benchmark's questions, with its unit."""
    return "Mean CIDEr x 100" if benchmark in UNBOUNDED else "Right answers, %"


def percent(sampled: Sampled | None) -> str:
    """Returns a share in per cent with its interval, unless that has no width."""
    if sampled is None:
        return "-"
    number = f"{100 * sampled.value:.1f}"
    return number if sampled.low == sampled.high else f"{number} {interval(sampled)}"


def interval(sampled: Sampled) -> str:
    """Returns an interval in per cent; an infinite end is called none."""
    ends = [
        f"{100 * end:.1f}" if math.isfinite(end) else "none" for end in (sampled.low, sampled.high)
    ]
    return f"[{', '.join(ends)}]"


def tokens_text(row: Row) -> str:
    """Returns the budget of visual tokens; a dash if it is not known."""
    return "-" if row.tokens is None else budget_text(row)


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

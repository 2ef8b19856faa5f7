"""Each benchmark's main number as papers print it, with its usual name and scale."""

from __future__ import annotations

from dataclasses import dataclass

from llava.eval.report.runs import UNBOUNDED


@dataclass(frozen=True)
class Own:
    """How a benchmark's main number is printed.

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

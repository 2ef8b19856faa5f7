"""The methods of each budget side by side, the best first, with paired differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.runs import ACCM, FLOOR, FULL, budget_key, budget_text
from llava.eval.report.statistics import Sampled, difference

TITLE = "Methods by budget"
EXPLANATION = (
    "Sorted by per cent of full, the best in bold. To ACCM and to the best: differences in points "
    "of per cent of full at the same budget, with 95% intervals of paired draws; an interval "
    "without 0 is a difference that the questions show. The best is the best of these questions: "
    "among methods that are close, it may be another one on others."
)
COST = (
    "Costs are of one question asked alone, from pixels to answer, without loading: the mean of a "
    "few questions of one benchmark, the median of rounds in which all methods take turns, and half"
    " the difference of the slowest and the fastest round. Tokens: visual tokens that "
    "a layer of the LLM reads, on average. Operations: a multiply-add counts as two; by formula "
    "those of image tower, projector and LLM; counted are those of everything, by "
    "torch.utils.flop_counter on one question, its answer included. Peak memory is what comes on "
    "top of the weights."
)


@dataclass(frozen=True)
class Standing:
    """One method at one budget.

    Attributes:
        row: its numbers.
        to_accm: its share of full less ACCM's, at the same budget; None for ACCM, and without it.
        to_best: the same for the best method; None for the best.
        own: its rows by benchmark.
    """

    row: Row
    to_accm: Sampled | None
    to_best: Sampled | None
    own: dict[str, Row]

    @property
    def is_best(self) -> bool:
        """Whether no method of the budget has a larger share of full."""
        return self.to_best is None


@dataclass(frozen=True)
class Budget:
    """The methods of one model at one budget, and its runs with all and without visual tokens.

    Attributes:
        model: its name.
        name: the budget, a number of tokens or a share with its mean number.
        benchmarks: those that the shares are means over.
        standings: the methods that prune, the best first.
        limits: the full-token run and the floor, as far as they exist.
    """

    model: str
    name: str
    benchmarks: list[str]
    standings: list[Standing]
    limits: list[Standing]

    @property
    def title(self) -> str:
        """The budget in words."""
        num_patches = self.standings[0].row.num_patches
        return f"{self.name} of {num_patches} tokens" if num_patches else f"{self.name} tokens"

    @property
    def has_costs(self) -> bool:
        """Whether the cost of any of its methods was measured."""
        return any(one.row.cost is not None for one in self.standings)

    @property
    def stages(self) -> list[str]:
        """The stages that were timed, in their order."""
        costs = [s.row.cost for s in self.standings + self.limits if s.row.cost is not None]
        longest = sorted(costs, key=lambda cost: -len(cost.stages))
        return list(dict.fromkeys(stage for cost in longest for stage in cost.stages))

    def best_own(self, benchmark: str) -> float | None:
        """Returns the largest main number of a benchmark among the methods that prune."""
        values = [s.own[benchmark].main_value for s in self.standings if benchmark in s.own]
        return max((value for value in values if value is not None), default=None)


def budgets(comparison: Comparison) -> list[Budget]:
    """Returns the budgets of each model, the largest first; those without shares of full not."""
    found = []
    for model in dict.fromkeys(row.model for row in comparison.rows):
        of_model = [row for row in comparison.rows if row.model == model]
        benchmarks = list(dict.fromkeys(row.benchmark for row in of_model if row.benchmark))
        means = [row for row in comparison.mean_rows if row.model == model]
        rows = [row for row in means or of_model if row.of_full is not None]
        if not means and len(benchmarks) > 1:
            continue
        own: dict[tuple, dict[str, Row]] = defaultdict(dict)
        for row in of_model:
            own[_key(row)][row.benchmark or ""] = row
        limits = [
            Standing(row, None, None, own[_key(row)]) for row in rows if row.method in (FULL, FLOOR)
        ]
        pruned = [row for row in rows if row.method not in (FULL, FLOOR) and row.tokens]
        pruned.sort(key=lambda row: -(row.tokens or 0))
        for budget in dict.fromkeys(map(budget_key, pruned)):
            same = [row for row in pruned if budget_key(row) == budget]
            same.sort(key=lambda row: (-_share(row).value, row.method))
            less = differences(same)
            standings = [Standing(row, *less[id(row)], own[_key(row)]) for row in same]
            found.append(Budget(model, budget_text(same[0]), benchmarks, standings, limits))
    return found


def _key(row: Row) -> tuple:
    return row.method, budget_key(row)


def differences(rows: Sequence[Row]) -> dict[int, tuple[Sampled | None, Sampled | None]]:
    """Returns the paired differences to ACCM and to the best method, by the id() of a row.

    Both are of the same benchmark, model and budget. Rows without a share of full, and those that
    prune nothing or keep nothing, have none.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.of_full is not None and row.tokens and row.method not in (FULL, FLOOR):
            groups.setdefault((row.benchmark, row.model, budget_key(row)), []).append(row)
    found: dict[int, tuple[Sampled | None, Sampled | None]] = {}
    for members in groups.values():
        best = min(members, key=lambda row: (-_share(row).value, row.method))
        accm = next((row for row in members if row.method == ACCM), None)
        found |= {id(row): (_less(row, accm), _less(row, best)) for row in members}
    return found


def _less(row: Row, other: Row | None) -> Sampled | None:
    if other is None or other is row:
        return None
    return difference(_share(row), _share(other))


def _share(row: Row) -> Sampled:
    assert row.of_full is not None  # of rows without one there is no standing
    return row.of_full

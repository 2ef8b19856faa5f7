"""Published numbers of pruning methods on LLaVA-1.5-7B, beside those measured here.

They come in two families that cannot be mixed (numbers.json says how they differ), and are shown
only for a model with as many visual tokens, at the budgets that were run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llava.eval.report.references import number_of
from llava.eval.report.runs import FULL, Run
from llava.eval.report.units import OWN
from llava.files import read_json

TITLE = "Published numbers, not measured here"
_NUMBERS = Path(__file__).with_name("numbers.json")


@dataclass(frozen=True)
class Line:
    """One published result.

    Attributes:
        name: the method, as it is published.
        method: the pruner of this project that it is; None if there is none.
        source: where it is published, and whether it is second hand.
        note: what else has to be known of it; may be empty.
        published: its numbers by benchmark, in their usual units.
        measured: the numbers of the run of that pruner here, as far as there is one.
    """

    name: str
    method: str | None
    source: str
    note: str
    published: Mapping[str, float]
    measured: Mapping[str, float]

    def text(self, benchmark: str) -> str:
        """Returns a published number as it is printed."""
        value = self.published.get(benchmark)
        return "-" if value is None else f"{value:g}" if benchmark == "mme" else f"{value:.1f}"


@dataclass(frozen=True)
class Table:
    """The published results of one family at one budget, beside the runs of one model.

    Attributes:
        title: the family's.
        about: how the family counts.
        model: name of the model that was measured.
        tokens: the budget.
        benchmarks: those of its columns.
        lines: the full-token run first, then the methods.
    """

    title: str
    about: str
    model: str
    tokens: int
    benchmarks: list[str]
    lines: list[Line]


def about() -> str:
    """Returns what has to be known of the published numbers."""
    return _read()["about"]


def set_beside(runs: Sequence[Run]) -> list[Table]:
    """Returns the tables for the budgets of whole runs; none for a model of another size."""
    made = _read()
    fitting = [run for run in runs if run.num_patches == made["num_patches"] and run.limit is None]
    found = []
    for model in dict.fromkeys(run.model for run in fitting):
        of_model = [run for run in fitting if run.model == model]
        for name, family in made["families"].items():
            rows = [row for row in made["rows"] if row["family"] == name]
            budgets = {run.tokens for run in of_model} & {row["tokens"] for row in rows}
            for tokens in sorted(budgets, key=lambda tokens: -(tokens or 0)):
                same = [row for row in rows if row["tokens"] == tokens]
                found.append(_table(model, family, tokens or 0, same, of_model))
    return found


def _table(
    model: str, family: dict, tokens: int, rows: Sequence[dict], runs: Sequence[Run]
) -> Table:
    """Returns a table; the method of a run is matched by the pruner's name."""

    def measured(method: str | None, kept: int | None) -> dict[str, float]:
        same = [run for run in runs if run.method == method and kept in (None, run.tokens)]
        values = {run.benchmark: _main_value(run, family["mme"]) for run in same}
        return {name: value for name, value in values.items() if value is not None}

    full = Line("All tokens", FULL, "", "", family["full"], measured(FULL, None))
    lines = [
        Line(
            row["name"],
            row["method"],
            row["source"],
            row.get("note", ""),
            row["values"],
            measured(row["method"], tokens),
        )
        for row in rows
    ]
    title, columns = f"{family['title']}, {tokens} tokens", list(family["full"])
    return Table(title, family["about"], model, tokens, columns, [full, *lines])


def _main_value(run: Run, mme: str) -> float | None:
    """Returns a run's number in its usual unit; MME's is the one that the family counts."""
    if run.benchmark == "mme":
        return number_of(run.path, mme)
    return OWN[run.benchmark].times * run.main_value


def _read() -> dict:
    return read_json(_NUMBERS)

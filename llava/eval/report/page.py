"""The page: one self-contained HTML file without scripts that loads nothing else."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from llava.eval.report import methods, pareto, plot, published, references, standing, table
from llava.eval.report.circumstances import span
from llava.eval.report.comparison import Comparison, Row
from llava.eval.report.disagreements import GAP, Disagreement
from llava.eval.report.rendering import render
from llava.eval.report.runs import BENCHMARKS, UNBOUNDED, Run

_MANY = 12  # rows of a table above which it is closed at first


def render_page(
    comparison: Comparison,
    disagreements: Sequence[Disagreement],
    left_out: Sequence[str],
    runs: Sequence[Run],
    compared: Sequence[references.Compared],
    folder: Path,
) -> str:
    """Returns the whole page.

    Args:
        comparison: the rows.
        disagreements: the result of find_disagreements.
        left_out: notes on omissions from the disagreements.
        runs: the result files.
        compared: numbers of others to compare with.
        folder: the folder of the page, to which links are relative.
    """
    styles = plot.method_styles(comparison.rows)
    pairs = itertools.groupby(disagreements, key=lambda pair: pair.first.benchmark)
    return render(
        "page.html",
        about=_about(runs),
        comparison=comparison,
        result=[row for row in methods.result_rows(comparison) if row is not None],
        charts=_charts(comparison),
        budgets=standing.budgets(comparison),
        fronts=_fronts(comparison),
        machines=list(dict.fromkeys(run.cost.machine for run in runs if run.cost is not None)),
        families=published.set_beside(runs),
        tables=table.by_benchmark(comparison.mean_rows + comparison.rows),
        compared=compared,
        runs=runs,
        disagreements=[list(group) for _, group in pairs],
        left_out=left_out,
        num_benchmarks=len({run.benchmark for run in runs}),
        num_models=len({run.model for run in runs}),
        styles=styles,
        link=partial(_link, folder=folder),
        UNBOUNDED=UNBOUNDED,
        GAP=GAP,
        MANY=_MANY,
        pareto=pareto,
        plot=plot,
        references=references,
        **table.WORDS,
    )


def _about(runs: Sequence[Run]) -> str:
    """Returns the benchmarks, the models and the dates."""
    models = ", ".join(dict.fromkeys(run.model for run in runs))
    names = ", ".join(dict.fromkeys(BENCHMARKS[run.benchmark] for run in runs))
    dates = span([word for run in runs for word in run.made.date.split(" to ") if word])
    return f"{models} on {names}" + (f", answered {dates}" if dates else "")


def _charts(comparison: Comparison) -> list[tuple[str, list[Row], list[list[Row]]]]:
    """Returns each model with its mean rows, if they can be drawn, and its benchmarks' rows."""
    charts = []
    for model in dict.fromkeys(row.model for row in comparison.rows):
        rows = [row for row in comparison.rows if row.model == model and row.tokens is not None]
        means = [row for row in comparison.mean_rows if row.model == model]
        if rows:
            charts.append(
                (model, means if plot.can_be_drawn(means) else [], table.by_benchmark(rows))
            )
    return charts


def _fronts(comparison: Comparison) -> list[tuple[str, str, list[Row], list[pareto.Axis]]]:
    """Returns each model whose costs were measured: with what its scores are of, and its rows."""
    fronts = []
    for model in dict.fromkeys(row.model for row in comparison.rows):
        means = [row for row in comparison.mean_rows if row.model == model]
        rows = means or [row for row in comparison.rows if row.model == model]
        benchmarks = {row.benchmark for row in comparison.rows if row.model == model}
        axes = pareto.axes(rows) if means or len(benchmarks) == 1 else []
        if axes:
            what = f"Mean of {len(benchmarks)} benchmarks" if means else rows[0].title
            fronts.append((model, what, rows, axes))
    return fronts


def _link(path: Path, folder: Path) -> str:
    """Returns the address of a file, relative to a folder; empty if there is no such file."""
    if not os.path.isfile(path):
        return ""
    return quote(os.fsencode(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))))

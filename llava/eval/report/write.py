"""The report as files: report.md, report.csv and report.html.

The page is one self-contained HTML file without scripts that loads nothing else.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from llava.errors import UserError
from llava.eval.report import methods, pareto, plot, published, standing, table
from llava.eval.report.circumstances import span
from llava.eval.report.comparison import Comparison, Row, compare
from llava.eval.report.disagreements import (
    GAP,
    Disagreement,
    ReadQuestions,
    find_disagreements,
    read_benchmark,
)
from llava.eval.report.references import Compared, read_references, set_beside
from llava.eval.report.rendering import render
from llava.eval.report.runs import BENCHMARKS, UNBOUNDED, Run, read_runs
from llava.eval.report.table import csv_table, markdown_report, reference_table, terminal_table
from llava.files import make_folder, write_text

DISAGREEMENTS = 12  # shown by default for each pair of runs
_MANY = 12  # rows of a table above which it is closed at first


def write_report(
    paths: Sequence[Path],
    folder: Path,
    limit: int,
    read_questions: ReadQuestions = read_benchmark,
    references: Path | None = None,
) -> str:
    """Writes report.md, report.csv and report.html.

    Args:
        paths: result files of llava.eval.score.
        folder: the folder of the report; made if needed.
        limit: most questions to show of a pair's disagreements.
        read_questions: returns a benchmark's questions; tests replace it.
        references: file with numbers of others to compare with; see read_references.

    Returns:
        The text for a terminal: a table of at most twenty lines, the result in a sentence, and the
        table of the references.

    Raises:
        UserError: result files are not right, or the folder cannot be written.
    """
    if limit < 0:
        raise UserError(f"--disagreements is {limit}: give 0 or more")
    others = [] if references is None else read_references(references)
    runs = read_runs(paths)
    compared = set_beside(others, runs)
    comparison = compare(runs)
    disagreements, left_out = find_disagreements(runs, limit, read_questions)
    page = render_page(comparison, disagreements, left_out, runs, compared, folder)
    make_folder(folder, ": name another")
    write_text(folder / "report.md", markdown_report(comparison, runs) + reference_table(compared))
    write_text(folder / "report.csv", csv_table(comparison))
    write_text(folder / "report.html", page)
    return terminal_table(comparison) + reference_table(compared)


def render_page(
    comparison: Comparison,
    disagreements: Sequence[Disagreement],
    left_out: Sequence[str],
    runs: Sequence[Run],
    compared: Sequence[Compared],
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

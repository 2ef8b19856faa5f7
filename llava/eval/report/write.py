"""The report as files: report.md, report.csv and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava.errors import UserError
from llava.eval.report.comparison import compare
from llava.eval.report.disagreements import ReadQuestions, find_disagreements, read_benchmark
from llava.eval.report.page import render_page
from llava.eval.report.references import read_references, set_beside
from llava.eval.report.runs import read_runs
from llava.eval.report.spreadsheet import csv_table
from llava.eval.report.table import markdown_report, reference_table, terminal_table
from llava.files import write_text

DISAGREEMENTS = 12  # shown by default for each pair of runs


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {folder} ({error.strerror}): name another"
        ) from error
    write_text(folder / "report.md", markdown_report(comparison, runs) + reference_table(compared))
    write_text(folder / "report.csv", csv_table(comparison))
    write_text(folder / "report.html", page)
    return terminal_table(comparison) + reference_table(compared)

"""Says what the quickstart came to: ``python -m llava.mini.result --report DIR --figure FILE``.

It shows a picture of one question that the captions saved, what the model knows, and the result in
a sentence.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llava.arguments import flag, path_flag
from llava.errors import UserError
from llava.eval.benchmarks import gqa, pope
from llava.eval.benchmarks.question import Question
from llava.eval.report.comparison import Row, compare
from llava.eval.report.disagreements import Side
from llava.eval.report.journal import read_entries
from llava.eval.report.methods import result_rows, result_sentence
from llava.eval.report.runs import ACCM, FULL, PRUNE, Run, read_runs
from llava.files import check_target, read_text
from llava.model.about import read_about
from llava.utils.cli import command

Example = tuple[Question, str, list[Side]]  # a question, its right answer, and those of two runs
BENCHMARKS = ("gqa", "pope")  # their questions have one right answer that can be written down


@dataclass
class ResultArguments:
    """Flags of the command."""

    report: str = flag("Folder of the report.", "outputs/quickstart/report")
    figure: str = flag("Where the picture goes, a PNG.", "outputs/quickstart/example.png")
    model_path: str = path_flag(
        "The model, whose card (README.md) says what it knows.", "checkpoints/accm-mini"
    )


def result(args: ResultArguments) -> int:
    """Draws the picture and prints what the model knows, and the result in a sentence.

    Raises:
        UserError: there is no such report, or runs of it are missing.
    """
    check_target(Path(args.figure))
    from llava.eval.figure import save_picture
    from llava.mini.pair import pair_picture, verdict

    rows = csv.DictReader(read_text(Path(args.report) / "report.csv").splitlines())
    runs = read_runs([Path(row["result_file"]) for row in rows if row.get("result_file")])
    comparison = compare(runs)
    example = _choose_example(runs, result_rows(comparison))
    if example is not None:
        question, truth, sides = example
        save_picture(pair_picture(question, truth, sides), Path(args.figure))
        print(f"picture: {args.figure}")
        print(f"  {question.tower_question} Truth: {truth}.")
        for side in sides:
            answer = "" if side.entry is None else side.entry.text
            print(f"  {side.run.label}: {answer}, {verdict(side, truth)}")
    model = Path(args.model_path)
    if (about := read_about(model, model.resolve().name).line) is not None:
        print(f"{about}.")
    sentence = result_sentence(comparison) or "There is no run with all tokens to compare with"
    print(f"{sentence}; report: {Path(args.report) / 'report.html'}")
    return 0


def _choose_example(runs: Sequence[Run], rows: Sequence[Row | None]) -> Example | None:
    """Returns the question to show, of GQA if it was run, else of POPE; its right answer; two runs.

    It is the first one, in the order of the questions and with answers other than yes and no
    first, that is answered right with all tokens, wrong after pruning, and right again with a
    caption. Where there is none, it is the very first question, whatever the answers.

    Args:
        runs: all of them.
        rows: from result_rows; they give the model and budget.
    """
    if rows[0] is None or None in rows:
        return None
    model, tokens = rows[0].model, rows[0].tokens
    for benchmark in BENCHMARKS:
        members = [run for run in runs if (run.benchmark, run.model) == (benchmark, model)]
        fitting = [run for run in members if run.method == FULL or run.tokens == tokens]
        first = {run.method: run for run in reversed(fitting)}
        if {FULL, PRUNE, ACCM} <= first.keys():
            return _example(first[FULL], first[PRUNE], first[ACCM])
    return None


def _example(full: Run, prune: Run, accm: Run) -> Example:
    truths = _truths(prune)
    keys = [key for key in prune.scores if key in truths]
    if not keys:
        raise UserError(f"{prune.path} has no question of {prune.data_dir}: score it again")

    def rank(key: str) -> tuple[bool, bool]:
        is_saved = (full.scores[key], prune.scores[key], accm.scores[key]) == (1, 0, 1)
        return not is_saved, truths[key][1] in ("yes", "no")

    key = min(keys, key=rank)
    question, truth = truths[key]
    sides = [Side(run, run.scores[key], _entry(run, key)) for run in (prune, accm)]
    return question, truth, sides


def _entry(run: Run, key: str):
    """Returns a run's record of a question.

    Raises:
        UserError: there is none.
    """
    entries = {} if run.answers_file is None else read_entries(run.answers_file, {key})
    if key not in entries:
        raise UserError(f"the journal of {run.answers_file} lacks question {key}: answer it again")
    return entries[key]


def _truths(run: Run) -> dict[str, tuple[Question, str]]:
    """Returns the questions of a run's data and their right answers, by key."""
    data_dir = run.data_dir or Path()
    if run.benchmark == "gqa":
        return {one.id: (one.question, one.answer) for one in gqa.read_annotations(data_dir)}
    labelled = pope.read_labelled_questions(data_dir).questions
    return {one.question.key: (one.question, one.answer) for one in labelled}


main = command(ResultArguments, result, "llava.mini.result", __doc__)

if __name__ == "__main__":
    sys.exit(main())

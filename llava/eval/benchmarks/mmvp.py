"""MMVP: 150 pairs of photographs that CLIP takes for alike, one question with two options each.

Layout of a data folder: ``Questions.csv`` and ``MMVP Images/1.jpg`` to ``300.jpg``.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from llava.constants import OPTION_LETTER_SUFFIX, OPTIONS_HEADING
from llava.conversation import question_prompt
from llava.errors import UserError
from llava.eval.benchmarks.native import need
from llava.eval.benchmarks.question import Question
from llava.files import read_text

HOME = "https://huggingface.co/datasets/MMVP/MMVP"
LAYOUT = "MMVP's folder holds Questions.csv and 'MMVP Images/1.jpg' to '300.jpg'"
MAX_NEW_TOKENS = 512
_COLUMNS = ("Question", "Options", "Correct Answer")


def answer_record(question: Question, text: str, answer_id: str, model_id: str) -> dict:
    """One line of the answers file that the method's own program writes; it has no answer id."""
    return {
        "question_id": question.question_id,
        "prompt": question_prompt(question.prompt),
        "answer": text,
        "gt_answer": question.extra["gt_answer"],
        "model_id": model_id,
        "text_options": question.extra["text_options"],
    }


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """All questions, in order; ``extra`` has their options and right answers.

    Args:
        data_dir: MMVP's folder.
        question_file: another Questions.csv.

    Raises:
        UserError: no such folder or file, or a line that is not a question.
    """
    path = question_file or need(data_dir / "Questions.csv", LAYOUT, HOME)
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    missing = set(_COLUMNS) - set(rows.fieldnames or ())
    if missing:
        raise UserError(f"{path} lacks the column {', '.join(sorted(missing))}")
    # The first column is spelt "Index" in some copies and "lndex" in others.
    index = rows.fieldnames[0]
    try:
        questions = [_question(row, row[index], n, data_dir) for n, row in enumerate(rows)]
    except csv.Error as error:
        raise UserError(f"{path} has a row that is broken ({error})") from error
    if not questions:
        raise UserError(f"{path} holds no questions: get it from {HOME}")
    return questions


def _question(row: dict[str, str | None], index: str | None, number: int, folder: Path) -> Question:
    where = f"Questions.csv of {folder}, question {number + 1}"
    if None in row or None in row.values():
        raise UserError(f"{where}: the row has not as many cells as the header")
    before, mark, second = row["Options"].partition("(b)")
    answer = row["Correct Answer"].strip()
    if not mark or "(a)" not in before or answer not in ("(a)", "(b)"):
        raise UserError(
            f"{where}: expected options '(a) ... (b) ...' and an answer (a) or (b), found "
            f"{row['Options']!r} and {answer!r}"
        )
    options = [before.replace("(a)", "").strip(), second.strip()]
    lines = f"{row['Question']} {OPTIONS_HEADING}\nA. {options[0]}\nB. {options[1]}"
    return Question(
        key=str(number),
        question_id=number,
        image=folder / "MMVP Images" / f"{index}.jpg",
        prompt=lines + OPTION_LETTER_SUFFIX,
        tower_question=row["Question"],  # without the options
        max_new_tokens=MAX_NEW_TOKENS,
        extra={"gt_answer": answer, "text_options": options},
    )

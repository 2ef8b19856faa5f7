"""MMVP: 150 pairs of photographs that CLIP takes for alike, one question with two options each.

Layout of a data folder: ``Questions.csv`` and ``MMVP Images/1.jpg`` to ``300.jpg``.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from llava.constants import OPTION_LETTER_SUFFIX
from llava.errors import UserError
from llava.eval.lines import read_text

HOME = "https://huggingface.co/datasets/MMVP/MMVP"
MAX_NEW_TOKENS = 512
_COLUMNS = ("Question", "Options", "Correct Answer")


@dataclass(frozen=True)
class Question:
    """One line of Questions.csv.

    Attributes:
        id: place in the file, from 0.
        image: the photograph.
        text: the question alone.
        prompt: the question with its options and the answer format.
        options: texts of the two options.
        answer: "(a)" or "(b)".
    """

    id: int
    image: Path
    text: str
    prompt: str
    options: list[str]
    answer: str


def read_questions(data_dir: Path) -> list[Question]:
    """All questions of a data folder, in order.

    Raises:
        UserError: no such folder or file, or a line that is not a question.
    """
    path = data_dir / "Questions.csv"
    if not path.is_file():
        raise UserError(
            f"there is no {path}: MMVP's folder holds Questions.csv and 'MMVP Images/1.jpg' to "
            f"'300.jpg'; get it from {HOME}"
        )
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
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
    where = f"{folder / 'Questions.csv'}, question {number + 1}"
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
    lines = f"{row['Question']} Options:\nA. {options[0]}\nB. {options[1]}"
    return Question(
        id=number,
        image=folder / "MMVP Images" / f"{index}.jpg",
        text=row["Question"],
        prompt=lines + OPTION_LETTER_SUFFIX,
        options=options,
        answer=answer,
    )

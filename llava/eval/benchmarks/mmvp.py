"""MMVP: 150 pairs of photographs that CLIP finds alike, one question with two options each.

Layout of a data folder: ``Questions.csv`` and ``MMVP Images/1.jpg`` to ``300.jpg``.
"""

from __future__ import annotations

from pathlib import Path

from llava.constants import OPTION_LETTER_SUFFIX, OPTIONS_HEADING
from llava.conversation import question_prompt
from llava.errors import UserError, quoted
from llava.eval.benchmarks.question import Question, need
from llava.eval.benchmarks.table import need_number, read_table

HOME = "https://huggingface.co/datasets/MMVP/MMVP"
LAYOUT = "MMVP's folder holds Questions.csv and 'MMVP Images/1.jpg' to '300.jpg'"
MAX_NEW_TOKENS = 512
_COLUMNS = ("Index", "Question", "Options", "Correct Answer")
_SPELLINGS = {"lndex": "Index"}  # a misspelling in some copies


def answer_record(question: Question, text: str, answer_id: str, model_id: str) -> dict:
    """Returns a line of the answers file as ACCM's own program writes it, without an answer id."""
    return {
        "question_id": question.question_id,
        "prompt": question_prompt(question.prompt),
        "answer": text,
        "gt_answer": question.extra["gt_answer"],
        "model_id": model_id,
        "text_options": question.extra["text_options"],
    }


def scored_together(question: Question) -> int:
    """Returns the number of a question's pair: only whole pairs count."""
    return question.extra["pair"]


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """Reads all questions, in the order of their indices, whatever the order of the rows.

    ``extra`` holds their options, right answers and pairs: 1 and 2 are the first pair.

    Args:
        data_dir: MMVP's folder.
        question_file: another Questions.csv.

    Raises:
        UserError: no such folder or file, or a line is not a question.
    """
    path = question_file or need(data_dir / "Questions.csv", LAYOUT, HOME)
    rows: dict[int, tuple[str, dict[str, str]]] = {}
    for where, cells in read_table(path, _COLUMNS, spellings=_SPELLINGS):
        index = need_number(cells["Index"], "Index", where)
        if index < 1 or index in rows:
            raise UserError(
                f"{where}: the Index {index} is there twice, or below 1: pairs are told by it, "
                f"mend it or get the file from {HOME}"
            )
        rows[index] = (where, cells)
    if not rows:
        raise UserError(f"{path} holds no questions: get it from {HOME}")
    return [
        _question(rows[index][1], index, number, data_dir, rows[index][0])
        for number, index in enumerate(sorted(rows))
    ]


def _question(row: dict[str, str], index: int, number: int, folder: Path, where: str) -> Question:
    before, mark, second = row["Options"].partition("(b)")
    answer = row["Correct Answer"].strip()
    if not mark or "(a)" not in before or answer not in ("(a)", "(b)"):
        raise UserError(
            f"{where}: expected options '(a) ... (b) ...' and an answer (a) or (b), found "
            f"{quoted(row['Options'])} and {quoted(answer)}: mend it, or get it from {HOME}"
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
        extra={"gt_answer": answer, "text_options": options, "pair": (index - 1) // 2},
    )

"""MMBench (dev, English): each question is asked once for every rotation of its options.

Layout of a data folder: ``mmbench_dev_20230712.tsv``, which is also LLaVA's question file and
contains the images.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llava.constants import OPTION_LETTER_SUFFIX
from llava.errors import UserError
from llava.eval.benchmarks.names import as_number, visible
from llava.eval.benchmarks.question import Question
from llava.eval.benchmarks.table import need_number, read_table

HOME = "https://download.openmmlab.com/mmclassification/datasets/mmbench/mmbench_dev_20230712.tsv"
LAYOUT = "MMBench's folder holds mmbench_dev_20230712.tsv"
FILE = "mmbench_dev_20230712.tsv"
LETTERS = "ABCD"
_ROTATION = 1_000_000  # added to a row's index for each step that its options are rotated
MAX_NEW_TOKENS = 1024  # as in LLaVA's MMBench program; the other benchmarks have 128
_COLUMNS = ("index", "question", "hint", *LETTERS, "image")
LABELS = ("answer", "category", "l2-category")  # the test split has no "answer"
# LLaVA and VLMEvalKit read the file with pandas, which takes these texts for an empty cell.
_PANDAS_EMPTY = {
    *("#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "n/a", "NULL", "null", "None"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a question under one rotation of its options.

    Attributes:
        index: the question's index + 1,000,000 for each step that the options are rotated.
        cells: all cells by column; those that pandas takes for empty are "".
    """

    index: int
    cells: Mapping[str, str]

    @property
    def question(self) -> int:
        """The index of the question that this is a rotation of."""
        return self.index % _ROTATION

    @property
    def options(self) -> dict[str, str]:
        """The options that exist, by letter: those that an answer can be matched to."""
        return {letter: self.cells[letter] for letter in LETTERS if self.cells[letter]}

    @property
    def shown_options(self) -> dict[str, str]:
        """The options of the prompt: LLaVA stops at the first that is empty or "none"."""
        shown = {}
        for letter in LETTERS:
            if _is_none(self.cells[letter]):
                break
            shown[letter] = self.cells[letter]
        return shown


def read_rows(data_dir: Path, table: Path | None = None) -> list[Row]:
    """Reads all rows of the folder's table, or of the given one, in order.

    Raises:
        UserError: no such file, a missing column, or a broken row.
    """
    path = find_table(data_dir) if table is None else table
    rows: dict[int, Row] = {}
    for where, cells in read_table(path, _COLUMNS, more=(*LABELS, "split")):
        index = need_number(cells["index"], "index", where)
        if index in rows:
            raise UserError(f"{where}: the index {index} is there twice; get the file from {HOME}")
        cells = {k: "" if text in _PANDAS_EMPTY else text for k, text in cells.items()}
        rows[index] = Row(index, cells)
    if not rows:
        raise UserError(f"{path} has no rows; get it from {HOME}")
    return list(rows.values())


def scored_together(question: Question) -> int:
    """Returns the index of the rotated question, of which all rotations must be right."""
    return int(question.question_id) % _ROTATION


def find_table(data_dir: Path) -> Path:
    """Finds the folder's table: the dev split's usual name, else the only table there.

    Raises:
        UserError: there is none, or more than one.
    """
    if os.path.isfile(data_dir / FILE):
        return data_dir / FILE
    tables = visible(data_dir.glob("*.tsv"))
    if len(tables) != 1:
        names = ", ".join(path.name for path in tables)
        has = f"{data_dir} has several tables ({names}): leave one there" if tables else None
        raise UserError(has or f"there is no {data_dir / FILE}: {LAYOUT}; get it from {HOME}")
    return tables[0]


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """Reads one question for each row of the table, in its order.

    Args:
        data_dir: folder with the table.
        question_file: another table.

    Raises:
        UserError: as ``read_rows``.
    """
    rows = read_rows(data_dir, question_file)
    cells = {row.index: row.cells["image"] for row in rows}
    # The rotations of a question share one object, even if the table repeats the picture.
    pictures = {cell: _picture(cell) for cell in cells.values()}
    return [_question(row, pictures[_follow(row.index, cells)]) for row in rows]


def answer_record(question: Question, text: str, answer_id: str, model_id: str) -> dict:
    """Returns a line of LLaVA's answers file, whose prompt lacks the answer format."""
    return {
        "question_id": question.question_id,
        "round_id": 0,
        "prompt": question.prompt.removesuffix(OPTION_LETTER_SUFFIX),
        "text": text,
        "options": question.extra["options"],
        "option_char": question.extra["option_char"],
        "answer_id": answer_id,
        "model_id": model_id,
        "metadata": {},
    }


def _question(row: Row, picture: bytes) -> Question:
    hint = "" if _is_none(row.cells["hint"]) else row.cells["hint"]
    options = row.shown_options
    text = row.cells["question"] + "".join(f"\n{letter}. {o}" for letter, o in options.items())
    if hint:
        text = f"{hint}\n{text}"
    return Question(
        key=str(row.index),
        question_id=row.index,
        image=picture,
        prompt=text + OPTION_LETTER_SUFFIX,
        # ACCM's authors cut the hint out with a plain replace: its newline stays in front, and
        # other occurrences of its words in the question or the options are removed too.
        tower_question=text.replace(hint, "") if hint else text,
        max_new_tokens=MAX_NEW_TOKENS,
        extra={"options": list(options.values()), "option_char": list(options)},
    )


def _follow(index: int, cells: Mapping[int, str]) -> str:
    """Returns the cell with a row's picture: in newer tables a cell may name another row."""
    seen = set()
    while index not in seen:
        seen.add(index)
        target = as_number(cells[index])
        if target is None or target not in cells:
            break
        index = target
    return cells[index]


def _picture(cell: str) -> bytes:
    try:
        return base64.b64decode(cell)
    except (binascii.Error, ValueError):
        return cell.encode()  # not a picture: opening it fails, which costs only this answer


def _is_none(cell: str) -> bool:
    return cell.lower() in ("", "nan", "none")

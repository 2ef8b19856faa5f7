"""MMBench (dev, English): each question is asked once for every rotation of its options.

Layout of a data folder: ``mmbench_dev_20230712.tsv``, which is LLaVA's question file too and has
the images in it.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llava.constants import OPTION_LETTER_SUFFIX
from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.files import read_text

HOME = "https://download.openmmlab.com/mmclassification/datasets/mmbench/mmbench_dev_20230712.tsv"
LAYOUT = "MMBench's folder holds mmbench_dev_20230712.tsv"
FILE = "mmbench_dev_20230712.tsv"
LETTERS = "ABCD"
MAX_NEW_TOKENS = 1024  # what LLaVA's MMBench program allows; the other benchmarks have 128
_COLUMNS = ("index", "question", "hint", *LETTERS, "image")
# LLaVA and VLMEvalKit read the file with pandas, to which these texts mean an empty cell.
_PANDAS_EMPTY = {
    *("#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "n/a", "NULL", "null", "None"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a question under one rotation of its options.

    Attributes:
        index: the question's index + 1,000,000 for each step that the options are moved.
        cells: all cells by column, those that pandas takes for empty as "".
    """

    index: int
    cells: Mapping[str, str]

    @property
    def question(self) -> int:
        """The index of the question of which this is a rotation."""
        return self.index % 1_000_000

    @property
    def options(self) -> dict[str, str]:
        """The options that exist, by letter: the ones an answer can come down to."""
        return {letter: self.cells[letter] for letter in LETTERS if self.cells[letter]}

    @property
    def shown_options(self) -> dict[str, str]:
        """The options in the prompt: LLaVA stops at the first that is empty or says "none"."""
        shown = {}
        for letter in LETTERS:
            if _is_none(self.cells[letter]):
                break
            shown[letter] = self.cells[letter]
        return shown


def read_rows(data_dir: Path, table: Path | None = None) -> list[Row]:
    """All rows of the folder's table, or of the one named, in order.

    Raises:
        UserError: no such file, a column that is not there, or a broken row.
    """
    path = data_dir / FILE if table is None else table
    if not path.is_file():
        raise UserError(f"there is no {path}: {LAYOUT}; get it from {HOME}")
    # A cell of base64 is longer than the module's default limit. The limit belongs to the process,
    # so it is set to one fixed value, here, where it is needed.
    csv.field_size_limit(2**31 - 1)
    lines = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t", strict=True)
    try:
        lacking = [name for name in _COLUMNS if name not in (lines.fieldnames or ())]
        if lacking:
            raise UserError(
                f"{path} lacks the column {', '.join(lacking)}: is this MMBench's table?"
            )
        rows = {}
        for cells in lines:
            row = _row(cells, f"{path}, row ending on line {lines.line_num}")
            if row.index in rows:
                raise UserError(
                    f"{path} has two rows with the index {row.index}; get it from {HOME}"
                )
            rows[row.index] = row
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num}: {error}") from error
    if not rows:
        raise UserError(f"{path} has no rows; get it from {HOME}")
    return list(rows.values())


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """One question for each row of the table, in its order.

    Args:
        data_dir: folder with the table.
        question_file: a table elsewhere.

    Raises:
        UserError: as of ``read_rows``.
    """
    return [_question(row) for row in read_rows(data_dir, question_file)]


def answer_record(question: Question, text: str, answer_id: str, model_id: str) -> dict:
    """One line of LLaVA's answers file; its prompt is without the answer format."""
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


def _row(cells: dict[str, str | None], where: str) -> Row:
    if None in cells or None in cells.values():
        raise UserError(f"{where}: it has not as many cells as the header; get it from {HOME}")
    try:
        index = int(cells["index"])
    except ValueError as error:
        raise UserError(f"{where}: the index {cells['index']!r} is not a whole number") from error
    return Row(index, {k: "" if text in _PANDAS_EMPTY else text for k, text in cells.items()})


def _question(row: Row) -> Question:
    hint = "" if _is_none(row.cells["hint"]) else row.cells["hint"]
    options = row.shown_options
    text = row.cells["question"] + "".join(f"\n{letter}. {o}" for letter, o in options.items())
    if hint:
        text = f"{hint}\n{text}"
    return Question(
        key=str(row.index),
        question_id=row.index,
        image=_image(row.cells["image"]),
        prompt=text + OPTION_LETTER_SUFFIX,
        # The method cuts the hint out with a plain replace: its newline stays in front, and where
        # the hint's words come again in question or options, they go too.
        tower_question=text.replace(hint, "") if hint else text,
        max_new_tokens=MAX_NEW_TOKENS,
        extra={"options": list(options.values()), "option_char": list(options)},
    )


def _image(cell: str) -> bytes:
    try:
        return base64.b64decode(cell)
    except (binascii.Error, ValueError):
        return cell.encode()  # no picture: it fails when it is opened, and costs this answer alone


def _is_none(cell: str) -> bool:
    return cell.lower() in ("", "nan", "none")

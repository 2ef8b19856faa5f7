"""MMBench's score: circular accuracy with exact matching, as VLMEvalKit computes it.

A question counts only if the answers to all rotations of its options are right.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llava.errors import UserError
from llava.eval.benchmarks.mmbench import FILE, LETTERS, Row, read_rows
from llava.eval.scoring.matching import first, match, need_fields

if TYPE_CHECKING:
    from openpyxl.cell import Cell

NO_OPTION = "Z"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
# No word boundary behind the letter: "answer is dark" is read as D.
_SPELT_OUT = re.compile(r"answer\s+is\s+\**([A-D])", re.IGNORECASE)
# VLMEvalKit prints the six abilities under these names.
_ABILITIES = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}
# Columns of the table that the file for upload leaves out, and the place of the new one.
_NOT_UPLOADED = ("hint", "category", "source", "image", "comment", "l2-category")
_PREDICTION_COLUMN = 6
_NOT_IN_EXCEL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def extract_option(text: str, options: Mapping[str, str]) -> str:
    """The letter of the option that an answer comes down to, "Z" for none.

    Args:
        text: the answer.
        options: the texts of the options that exist, by letter.
    """
    return _option_by_letter(text, options) or _option_by_text(text, options) or NO_OPTION


def _option_by_letter(text: str, options: Mapping[str, str]) -> str | None:
    if "Failed to obtain answer via API" in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return NO_OPTION
    words = text.translate(_PUNCTUATION).split()
    letters = [letter for letter in options if letter in words]
    # Further in front, a lone letter is rather the article of "A man is ..." than an answer.
    if len(letters) == 1 and words.index(letters[0]) >= len(words) - 4:
        return letters[0]
    if not letters and NO_OPTION in words:
        return NO_OPTION
    spelt_out = _SPELT_OUT.search(text)
    letter = spelt_out.group(1).upper() if spelt_out else None
    return letter if letter in options else None


def _option_by_text(text: str, options: Mapping[str, str]) -> str | None:
    text = text.lower()
    if len(text) > 2 * sum(len(option) for option in options.values()):
        return None
    named = [letter for letter, option in options.items() if option.lower() in text]
    return named[0] if len(named) == 1 else None


def score(data_dir: Path, answers: list[dict], allow_missing: bool = False) -> dict:
    """Scores answers, matched to rows by ``question_id``; answers to no row are ignored.

    Args:
        data_dir: folder with MMBench's table.
        answers: records with question_id and text; with duplicates the last one counts.
        allow_missing: count rows without an answer as wrong instead of refusing.

    Returns:
        ``overall``, ``categories`` and ``l2_categories`` by circular accuracy (fractions);
        ``vanilla.first_rotation`` and ``vanilla.all_rows``, the same three over single rows;
        ``missing`` (ids of rows); ``questions``, for each question whether all its rotations are
        answered right, under the key of its first row.

    Raises:
        UserError: a table without labels, answers to another benchmark, or missing answers.
    """
    rows = _labelled_rows(data_dir)
    texts, missing = _match(rows, answers, allow_missing)
    right = {row.index: _is_right(row, texts.get(row.index)) for row in rows}
    rotations = defaultdict(list)
    for row in rows:
        rotations[row.question].append(right[row.index])
    originals = [row for row in rows if row.index == row.question]
    circular = {row.index: all(rotations[row.index]) for row in originals}
    return {
        **_means(originals, circular),
        "vanilla": {"first_rotation": _means(originals, right), "all_rows": _means(rows, right)},
        "missing": missing,
        "questions": {str(index): int(hit) for index, hit in circular.items()},
    }


def headline(scores: dict) -> str:
    """The scores in one line."""
    vanilla = scores["vanilla"]["first_rotation"]["overall"]
    return (
        f"MMBench: circular accuracy {100 * scores['overall']:.2f}% of {len(scores['questions'])} "
        f"questions (first rotation alone {100 * vanilla:.2f}%)"
    )


def write_upload(data_dir: Path, answers: list[dict], path: Path) -> None:
    """Writes the .xlsx that MMBench's server takes, whole or not at all.

    It has the columns that the official conversion keeps, and the raw answers as ``prediction``;
    rows without an answer stay empty there, answers to no row are ignored.

    Raises:
        UserError: openpyxl is absent, answers to another benchmark, or the file cannot be written.
    """
    try:
        from openpyxl import Workbook
    except ImportError as error:
        raise UserError(
            f"writing {path} needs openpyxl: pip install 'llava-accm[mmbench]'"
        ) from error
    rows = read_rows(data_dir)
    texts, _ = _match(rows, answers, allow_missing=True)
    columns = [name for name in rows[0].cells if name not in _NOT_UPLOADED]
    columns.insert(_PREDICTION_COLUMN, "prediction")
    book = Workbook()
    sheet = book.active
    sheet.title = "Sheet1"  # as pandas calls it
    sheet.append(columns)
    for line, row in enumerate(rows, start=2):
        values = {**row.cells, "index": row.index, "prediction": texts.get(row.index, "")}
        for place, name in enumerate(columns, start=1):
            _fill(sheet.cell(line, place), values[name])
    partial = path.with_name(path.name + ".partial")
    try:
        book.save(partial)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): write elsewhere") from error


def _fill(cell: Cell, value: int | str) -> None:
    if value == "":
        return
    cell.value = _NOT_IN_EXCEL.sub("", value) if isinstance(value, str) else value
    if isinstance(value, str):
        cell.data_type = "s"  # else an answer that begins with "=" would be a formula


def _labelled_rows(data_dir: Path) -> list[Row]:
    rows = read_rows(data_dir)
    where = data_dir / FILE
    lacking = [n for n in ("answer", "category", "l2-category") if n not in rows[0].cells]
    if lacking:
        raise UserError(
            f"{where} lacks the column {', '.join(lacking)}: without labels it can be answered and "
            "uploaded, but not scored"
        )
    unlabelled = [row.index for row in rows if row.cells["answer"] not in tuple(LETTERS)]
    if unlabelled:
        raise UserError(
            f"{where}: in {len(unlabelled)} rows the answer is none of {', '.join(LETTERS)} (index "
            f"{first(unlabelled)})"
        )
    if not any(row.index == row.question for row in rows):
        raise UserError(f"{where} has only rotations (indices from 1,000,000) and no question")
    return rows


def _match(
    rows: Sequence[Row], answers: list[dict], allow_missing: bool
) -> tuple[dict[int, str], list[int | str]]:
    """The answers by row, and the rows without one. Those to unknown rows are ignored, as the
    official conversion does."""
    need_fields(answers)
    keys = {row.index: str(row.index) for row in rows}
    ids = {key: index for index, key in keys.items()}
    asked = {row.index: row.cells["question"] for row in rows}

    def find(record: dict) -> str | None:
        index = record["question_id"]
        fits = index in keys and asked[index] in str(record.get("prompt", asked[index]))
        return keys[index] if fits else None

    matched = match(ids, answers, find, allow_missing, ignore_unknown=True)
    return {ids[key]: text for key, text in matched.texts.items()}, matched.missing


def _is_right(row: Row, text: str | None) -> bool:
    return text is not None and extract_option(text, row.options) == row.cells["answer"]


def _means(rows: Sequence[Row], right: Mapping[int, bool]) -> dict:
    def by(name_of: Callable[[Row], str]) -> dict[str, float]:
        groups = defaultdict(list)
        for row in rows:
            groups[name_of(row)].append(right[row.index])
        return {name: sum(group) / len(group) for name, group in sorted(groups.items())}

    return {
        "overall": sum(right[row.index] for row in rows) / len(rows),
        "categories": by(lambda row: row.cells["category"]),
        "l2_categories": by(lambda row: _ability(row.cells["l2-category"])),
    }


def _ability(name: str) -> str:
    return _ABILITIES.get(name, name)

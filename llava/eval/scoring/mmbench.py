"""MMBench's score: circular accuracy with exact matching, as VLMEvalKit computes it.

A question counts only if the answers to all rotations of its options are right.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llava.errors import UserError
from llava.eval.benchmarks.mmbench import LABELS, LETTERS, Row, find_table, read_rows
from llava.eval.scoring import matching
from llava.extras import missing_package
from llava.files import write_whole

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
# No word boundary after the letter: "answer is dark" is read as D.
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
# The columns of the file for upload, in order; the last two if the table has them.
_UPLOADED = ("index", "question", *LETTERS, "prediction", "answer", "split")
_NOT_IN_EXCEL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def extract_option(text: str, options: Mapping[str, str]) -> str:
    """Returns the letter of the option that an answer means, "Z" for none.

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
    # Nearer the front, a lone letter is more likely the article of "A man is ...".
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


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> tuple[list[Row], matching.Matched]:
    """Reads the labels and matches the answers to them; see score_with.

    Raises:
        NoLabels: the table has no labels.
    """
    rows = matching.keep_asked(_labelled_rows(data_dir), asked, lambda row: str(row.index))
    return rows, _match(rows, answers, allow_missing)


def numbers(data: tuple[list[Row], matching.Matched]) -> dict:
    """Returns the scores of matched answers; answers to no row are ignored.

    Returns:
        ``overall``, ``categories`` and ``l2_categories`` by circular accuracy (fractions);
        ``vanilla.first_rotation`` and ``vanilla.all_rows``, the same three over single rows;
        ``missing`` (ids of rows); ``questions``, whether all rotations of a question are answered
        right, by the key of its first row; ``unscored`` (ids of answers to no row).
    """
    rows, matched = data
    right = {row.index: False for row in rows}
    for row in rows:
        if (text := matched.texts.get(str(row.index))) is not None:
            right[row.index] = extract_option(text, row.options) == row.cells["answer"]
    rotations = defaultdict(list)
    for row in rows:
        rotations[row.question].append(right[row.index])
    originals = [row for row in rows if row.index == row.question]
    circular = {row.index: all(rotations[row.index]) for row in originals}
    return {
        **_means(originals, circular),
        "vanilla": {"first_rotation": _means(originals, right), "all_rows": _means(rows, right)},
        "missing": matched.missing,
        "questions": {str(index): int(hit) for index, hit in circular.items()},
        "unscored": matched.unscored,
    }


score = matching.score_with(match_answers, numbers)


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    vanilla = scores["vanilla"]["first_rotation"]["overall"]
    return (
        f"MMBench: circular accuracy {100 * scores['overall']:.2f}% of {len(scores['questions'])} "
        f"questions (first rotation alone {100 * vanilla:.2f}%{matching.notes(scores)})"
    )


def write_upload(
    data_dir: Path, answers: list[dict], path: Path, allow_missing: bool = False
) -> None:
    """Writes the .xlsx for MMBench's server, whole or not at all; it needs no labels.

    The file has the columns of the official conversion, and the raw answers as ``prediction``;
    answers to no row are ignored.

    Args:
        data_dir: folder with MMBench's table.
        answers: records with question_id and text; with duplicates the last one counts.
        path: the .xlsx.
        allow_missing: leave rows without an answer empty instead of refusing.

    Raises:
        UserError: openpyxl is absent, answers are missing or to another benchmark, or the file
            cannot be written.
    """
    try:
        from openpyxl import Workbook
    except ModuleNotFoundError as error:
        raise missing_package(f"writing {path}", "openpyxl", "mmbench") from error
    rows = read_rows(data_dir)
    texts = _match(rows, answers, allow_missing).texts
    columns = [name for name in _UPLOADED if name == "prediction" or name in rows[0].cells]
    book = Workbook()
    sheet = book.active
    sheet.title = "Sheet1"  # pandas' name
    sheet.append(columns)
    for line, row in enumerate(rows, start=2):
        values: dict[str, int | str] = {
            **row.cells,
            "index": row.index,
            "prediction": texts.get(str(row.index), ""),
        }
        for place, name in enumerate(columns, start=1):
            _fill(sheet.cell(line, place), values[name])
    write_whole(path, book.save)


def _fill(cell: Cell, value: int | str) -> None:
    if value == "":
        return
    cell.value = _NOT_IN_EXCEL.sub("", value) if isinstance(value, str) else value
    if isinstance(value, str):
        cell.data_type = "s"  # otherwise an answer that begins with "=" would be a formula


def _labelled_rows(data_dir: Path) -> list[Row]:
    rows = read_rows(data_dir)
    where = find_table(data_dir)
    lacking = [name for name in LABELS if name not in rows[0].cells]
    if lacking:
        raise matching.NoLabels(
            f"{where} lacks the column {', '.join(lacking)}: without labels it can be answered and "
            "uploaded (--upload FILE), but not scored"
        )
    unlabelled = [row.index for row in rows if row.cells["answer"] not in tuple(LETTERS)]
    if unlabelled:
        raise matching.NoLabels(
            f"{where}: in {len(unlabelled)} rows the answer is none of {', '.join(LETTERS)} (index "
            f"{matching.first(unlabelled)}): they can be answered and uploaded (--upload FILE), "
            "but not scored"
        )
    if not any(row.index == row.question for row in rows):
        raise UserError(
            f"{where} has only rotations (indices from 1,000,000) and no question: get it again"
        )
    return rows


def _match(rows: Sequence[Row], answers: list[dict], allow_missing: bool) -> matching.Matched:
    """Returns the answers by row; unknown rows are ignored, as in the official conversion."""
    known = {row.index: row.cells["question"] for row in rows}
    ids = {str(index): index for index in known}

    def find(record: dict) -> str | None:
        index, prompt = record["question_id"], record.get("prompt")
        if index not in known:
            return None
        fits = prompt is None or matching.asks_within(known[index], str(prompt))
        return str(index) if fits else None

    return matching.match(
        ids, matching.need_fields(answers), find, allow_missing, ignore_unknown=True
    )


def _means(rows: Sequence[Row], right: Mapping[int, bool]) -> dict:
    def by(name_of: Callable[[Row], str]) -> dict[str, float]:
        groups = defaultdict(list)
        for row in rows:
            groups[name_of(row)].append(right[row.index])
        return {name: sum(group) / len(group) for name, group in sorted(groups.items())}

    return {
        "overall": sum(right[row.index] for row in rows) / len(rows),
        "categories": by(lambda row: row.cells["category"]),
        "l2_categories": by(lambda row: _ABILITIES.get(name := row.cells["l2-category"], name)),
    }

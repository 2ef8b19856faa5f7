"""SEED-Bench's scores: accuracy per dimension, over images, over videos and over all."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from llava.eval.benchmarks.seed import DATA_TYPES, Annotation, read_annotations, read_asked
from llava.eval.scoring.matching import (
    Matched,
    choose_scored,
    find_by_id,
    match,
    need_fields,
    notes,
)
from llava.files import write_text


@dataclass(frozen=True)
class Data:
    """Labels with the answers to them.

    Attributes:
        dimensions: names of the dimensions in order.
        annotations: the annotations of the questions that were asked.
        unasked: the number of other annotations.
        matched: the answers.
    """

    dimensions: list[str]
    annotations: list[Annotation]
    unasked: int
    matched: Matched


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> Data:
    """Reads the labels and matches the answers to them; see score."""
    answers = need_fields(answers)
    dimensions, annotations = read_annotations(data_dir)
    every = read_asked(data_dir, annotations)
    questions, scored, unasked = choose_scored(every, annotations, asked)
    ids = {question.key: question.question_id for question in questions}
    find = find_by_id([*(annotation.question for annotation in scored), *questions])
    matched = match(ids, answers, find, allow_missing, ignore_unknown=True)
    return Data(dimensions, scored, unasked, matched)


def score(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> dict:
    """Scores answers, matched to questions by id and question.

    An answer must be the right letter and nothing else. As in the official scorer, an image's
    answer is not found if its id is a text (such ids count as missing), and answers without a label
    in SEED-Bench.json do not count: LLaVA's questions have some that today's edition lacks.

    Args:
        data_dir: SEED-Bench's folder, with SEED-Bench.json and perhaps LLaVA's questions.
        answers: records of LLaVA's answers file; with duplicates the last one counts.
        allow_missing: count questions without an answer as wrong instead of refusing.
        asked: keys of the questions of a limited run; None for all of them.

    Returns:
        ``total``, ``image``, ``video`` (None without such questions) and ``dimensions`` in per
        cent, ``questions`` (1 where right, by key), ``missing`` (ids), ``unscored`` (ids of answers
        without a label) and ``unasked`` (the number of labels without a question).

    Raises:
        UserError: files or records are not right, or answers are missing or to another benchmark.
    """
    data = match_answers(data_dir, answers, allow_missing, asked)
    texts = data.matched.texts
    right = [texts.get(item.question.key) == item.answer for item in data.annotations]
    marked = list(zip(data.annotations, right))
    per_dimension = {
        name: _percent([ok for item, ok in marked if item.dimension == name])
        for name in data.dimensions
    }
    return {
        "total": _percent(right),
        "image": _percent([ok for item, ok in marked if item.data_type == "image"]),
        "video": _percent([ok for item, ok in marked if item.data_type == "video"]),
        "dimensions": {name: value for name, value in per_dimension.items() if value is not None},
        "questions": {item.question.key: int(ok) for item, ok in marked},
        "missing": data.matched.missing,
        "unscored": data.matched.unscored,
        "unasked": data.unasked,
    }


def write_upload(
    data_dir: Path, answers: list[dict], path: Path, allow_missing: bool = False
) -> None:
    """Writes the file for SEED-Bench's leaderboard, whole or not at all.

    Its lines are JSON with question_id, always a text, and prediction, the raw answer, in the order
    of SEED-Bench.json; a question without an answer gets an empty one.

    Raises:
        UserError: as score, or the file cannot be written.
    """
    data = match_answers(data_dir, answers, allow_missing)
    lines = [
        {"question_id": key, "prediction": data.matched.texts.get(key, "")}
        for key in (annotation.question.key for annotation in data.annotations)
    ]
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    kinds = [kind for kind in DATA_TYPES if scores[kind] is not None]
    parts = ", ".join(f"{kind} {scores[kind]:.2f}" for kind in kinds)
    return f"SEED-Bench: accuracy {scores['total']:.2f}% ({parts}{notes(scores)})"


def _percent(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) * 100 if right else None

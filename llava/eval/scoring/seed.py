"""SEED-Bench's scores: accuracy per dimension, over images, over videos and over all."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from llava.eval.benchmarks.seed import DATA_TYPES, LLAVA_FILE, Annotation, read_annotations
from llava.eval.scoring import matching
from llava.files import write_text


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> tuple[list[str], list[Annotation], matching.Matched]:
    """Reads the dimensions and labels and matches the answers; see score_with."""
    answers = matching.need_fields(answers)
    dimensions, annotations = read_annotations(data_dir)
    every = LLAVA_FILE.asked(data_dir, [annotation.question for annotation in annotations])
    questions, scored, unasked = matching.choose_scored(every, annotations, asked)
    ids = {question.key: question.question_id for question in questions}
    find = matching.find_by_id([*(annotation.question for annotation in scored), *questions])
    matched = matching.match(
        ids, answers, find, allow_missing, ignore_unknown=True, unasked=unasked
    )
    return dimensions, scored, matched


def numbers(data: tuple[list[str], list[Annotation], matching.Matched]) -> dict:
    """Returns the scores of matched answers.

    An answer must be the right letter and nothing else. As in the official scorer, an image's
    answer is not found if its id is a text (such ids count as missing), and answers without a label
    in SEED-Bench.json do not count: LLaVA's questions have some that today's edition lacks.

    Returns:
        ``total``, ``image``, ``video`` (None without such questions) and ``dimensions`` in per
        cent, ``questions`` (1 where right, by key), ``missing`` (ids), ``unscored`` (ids of answers
        without a label) and ``unasked`` (the number of labels without a question).
    """
    dimensions, annotations, matched = data
    right = [matched.texts.get(item.question.key) == item.answer for item in annotations]
    marked = list(zip(annotations, right))
    per_dimension = {
        name: _percent([ok for item, ok in marked if item.dimension == name]) for name in dimensions
    }
    return {
        "total": _percent(right),
        "image": _percent([ok for item, ok in marked if item.data_type == "image"]),
        "video": _percent([ok for item, ok in marked if item.data_type == "video"]),
        "dimensions": {name: value for name, value in per_dimension.items() if value is not None},
        "questions": {item.question.key: int(ok) for item, ok in marked},
        "missing": matched.missing,
        "unscored": matched.unscored,
        "unasked": matched.unasked,
    }


score = matching.score_with(match_answers, numbers)


def write_upload(
    data_dir: Path, answers: list[dict], path: Path, allow_missing: bool = False
) -> None:
    """Writes the file for SEED-Bench's leaderboard, whole or not at all.

    Its lines are JSON with question_id, always a text, and prediction, the raw answer, in the order
    of SEED-Bench.json; a question without an answer gets an empty one.

    Raises:
        UserError: as score, or the file cannot be written.
    """
    _, annotations, matched = match_answers(data_dir, answers, allow_missing)
    lines = [
        {"question_id": key, "prediction": matched.texts.get(key, "")}
        for key in (annotation.question.key for annotation in annotations)
    ]
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    kinds = [kind for kind in DATA_TYPES if scores[kind] is not None]
    parts = ", ".join(f"{kind} {scores[kind]:.2f}" for kind in kinds)
    return f"SEED-Bench: accuracy {scores['total']:.2f}% ({parts}{matching.notes(scores)})"


def _percent(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) * 100 if right else None

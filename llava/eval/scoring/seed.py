"""SEED-Bench's scores: accuracy per dimension, over images, over videos and over all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava.eval.benchmarks.seed import DATA_TYPES, read_annotations
from llava.eval.scoring.matching import find_by_id, match, need_fields


def score(data_dir: Path, answers: list[dict], allow_missing: bool = False) -> dict:
    """Scores answers, matched to questions by id and question.

    An answer must be the right letter and nothing else. As in the official scorer an image's answer
    is not found when its id is a text; such ids count as missing.

    Args:
        data_dir: SEED-Bench's folder; of it SEED-Bench.json is read.
        answers: records of LLaVA's answers file; with duplicates the last one counts.
        allow_missing: count questions without an answer as wrong instead of refusing.

    Returns:
        ``total``, ``image``, ``video`` (None without such questions) and ``dimensions`` in per
        cent, ``questions`` (1 where right, by key) and ``missing`` (ids).

    Raises:
        UserError: files or records that are not right, answers missing or to other questions.
    """
    need_fields(answers)
    dimensions, annotations = read_annotations(data_dir)
    questions = [annotation.question for annotation in annotations]
    ids = {question.key: question.question_id for question in questions}
    matched = match(ids, answers, find_by_id(questions), allow_missing)
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
    }


def headline(scores: dict) -> str:
    """The scores in one line."""
    kinds = [kind for kind in DATA_TYPES if scores[kind] is not None]
    parts = ", ".join(f"{kind} {scores[kind]:.2f}" for kind in kinds)
    return f"SEED-Bench: accuracy {scores['total']:.2f}% ({parts})"


def _percent(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) * 100 if right else None

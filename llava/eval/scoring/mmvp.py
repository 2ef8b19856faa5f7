"""MMVP's score: the share of pairs with both answers right."""

from __future__ import annotations

from collections.abc import Sequence

from llava.errors import UserError
from llava.eval.benchmarks.mmvp import Question


def extract_answer(text: str) -> str:
    """What an answer comes down to, as the method's scorer reads it.

    The order of the steps matters and is kept: "The answer is: A" is cut behind "answer is", so a
    colon stays in front and the answer counts as wrong.
    """
    text = text.lower().strip()
    for mark in ("answer is", "answer is:", "answer:"):
        if mark in text:
            text = text.split(mark)[-1]
    return text.strip().rstrip(".:,").lstrip("(").rstrip(")")


def is_right(question: Question, text: str) -> bool:
    """Whether an answer is the letter of the right option, or its text."""
    letter = question.answer.strip("()")
    option = question.options["ab".index(letter)]
    return extract_answer(text) in (letter, option.lower())


def score(
    questions: Sequence[Question], answers: Sequence[dict], allow_missing: bool = False
) -> dict:
    """Scores answers, matched to questions by ``question_id``.

    Args:
        questions: all of them, in order; neighbours are a pair.
        answers: records with question_id and answer; with duplicates the last one counts.
        allow_missing: count questions without an answer as wrong instead of refusing.

    Returns:
        ``accuracy`` (per cent of the pairs), ``correct`` (twice the number of right pairs),
        ``total`` (questions), ``individually_correct``, ``missing`` and ``incorrect`` (ids of the
        wrong single answers).

    Raises:
        UserError: an answer to no question of the benchmark, or missing answers.
    """
    given = {record["question_id"]: record["answer"] for record in answers}
    ids = [question.id for question in questions]
    unknown = sorted(set(given) - set(ids), key=str)
    missing = [i for i in ids if i not in given]
    if unknown:
        raise UserError(
            f"{len(unknown)} answers are to no question of this benchmark (question_id "
            f"{_first(unknown)}): is this the answers file of another one?"
        )
    if missing and not allow_missing:
        raise UserError(
            f"{len(missing)} of {len(ids)} questions have no answer (question_id "
            f"{_first(missing)}): answer them, or count them as wrong with --allow-missing"
        )
    right = [q.id in given and is_right(q, given[q.id]) for q in questions]
    # With an odd number of questions the last is a pair of its own, worth one.
    pairs = [right[i : i + 2] for i in range(0, len(right), 2)]
    correct = sum(len(pair) for pair in pairs if all(pair))
    return {
        "accuracy": 100 * correct / len(right) if right else 0.0,
        "correct": correct,
        "total": len(right),
        "individually_correct": sum(right),
        "missing": missing,
        "incorrect": [i for i, ok in zip(ids, right) if not ok],
    }


def _first(ids: Sequence[object]) -> str:
    return ", ".join(str(i) for i in ids[:5]) + (", ..." if len(ids) > 5 else "")

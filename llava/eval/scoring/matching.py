"""Answers matched to questions by their id, whatever order they come in."""

from __future__ import annotations

from collections.abc import Sequence

from llava.errors import UserError

QuestionId = int | str


def texts_by_id(answers: Sequence[dict]) -> dict[QuestionId, str]:
    """The ``text`` of every ``question_id``; with duplicates the last one counts.

    Raises:
        UserError: a record that lacks one of the two, or holds something else there.
    """
    texts = {}
    for number, record in enumerate(answers, start=1):
        question_id, text = record.get("question_id"), record.get("text")
        if not isinstance(question_id, (int, str)) or not isinstance(text, str):
            raise UserError(
                f"line {number} of the answers has no question_id (a number or a text) and text (a "
                "text): is this the answers file of another benchmark?"
            )
        texts[question_id] = text
    return texts


def refuse_strangers(ids: Sequence[QuestionId], texts: dict[QuestionId, str]) -> None:
    """Raises UserError when there are answers to questions that the benchmark does not have."""
    known = set(ids)
    unknown = [i for i in texts if i not in known]
    if unknown:
        raise UserError(
            f"{len(unknown)} of {len(texts)} answers are to no question of this benchmark "
            f"(question_id {first_few(unknown)}): is this the answers file of another benchmark?"
        )


def unanswered(
    ids: Sequence[QuestionId], texts: dict[QuestionId, str], allow_missing: bool
) -> list[QuestionId]:
    """The ids without an answer.

    Raises:
        UserError: there are such, and ``allow_missing`` is not set.
    """
    missing = [i for i in ids if i not in texts]
    if missing and not allow_missing:
        raise UserError(
            f"{len(missing)} of {len(ids)} questions have no answer (question_id "
            f"{first_few(missing)}): answer them, or count them as wrong with --allow-missing"
        )
    return missing


def first_few(ids: Sequence[object]) -> str:
    """The first five, for a message."""
    return ", ".join(str(i) for i in ids[:5]) + (", ..." if len(ids) > 5 else "")

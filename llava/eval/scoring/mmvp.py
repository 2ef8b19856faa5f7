"""MMVP's score: the share of pairs with both answers right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from llava.eval.benchmarks.mmvp import read_questions
from llava.eval.benchmarks.names import words
from llava.eval.benchmarks.question import Question
from llava.eval.scoring.matching import Matched, find_by_id, keep_asked, match, need_fields


def extract_answer(text: str) -> str:
    """Returns the option that an answer means, as ACCM's scorer reads it.

    The order of the steps matters and is kept: "The answer is: A" is cut after "answer is", so a
    colon stays in front and the answer counts as wrong.
    """
    text = text.lower().strip()
    for mark in ("answer is", "answer is:", "answer:"):
        if mark in text:
            text = text.split(mark)[-1]
    return text.strip().rstrip(".:,").lstrip("(").rstrip(")")


def is_right(question: Question, text: str) -> bool:
    """Returns whether an answer is the letter of the right option, or its text."""
    letter = question.extra["gt_answer"].strip("()")
    option = question.extra["text_options"]["ab".index(letter)]
    return extract_answer(text) in (letter, option.lower())


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> tuple[list[Question], Matched]:
    """Reads the questions and brings answers to them; see score."""
    records = [record | {"text": record["answer"]} for record in need_fields(answers, ("answer",))]
    questions = keep_asked(read_questions(data_dir), asked, lambda question: question.key)
    ids = {question.key: question.question_id for question in questions}
    return questions, match(ids, records, find_by_id(questions, _asks), allow_missing)


def score(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> dict:
    """Scores answers, matched to questions by ``question_id``.

    Args:
        data_dir: MMVP's folder; its questions name their pairs.
        answers: records with question_id and answer; with duplicates the last one counts.
        allow_missing: count questions without an answer as wrong instead of refusing.
        asked: keys of the questions of a limited run; None for all of them.

    Returns:
        ``accuracy`` (per cent of the pairs), ``correct`` (twice the number of right pairs),
        ``total`` (questions), ``individually_correct``, ``questions`` (1 where right, by key),
        ``missing`` and ``incorrect`` (ids).

    Raises:
        UserError: files or records are not right, or answers are missing or to other questions.
    """
    questions, matched = match_answers(data_dir, answers, allow_missing, asked)
    texts = matched.texts
    right = [q.key in texts and is_right(q, texts[q.key]) for q in questions]
    pairs = defaultdict(list)
    for question, ok in zip(questions, right):
        pairs[question.extra["pair"]].append(ok)
    # A question without its partner is a pair of its own, worth one.
    correct = sum(len(pair) for pair in pairs.values() if all(pair))
    return {
        "accuracy": 100 * correct / len(right),
        "correct": correct,
        "total": len(right),
        "individually_correct": sum(right),
        "incorrect": [q.question_id for q, ok in zip(questions, right) if not ok],
        "questions": {q.key: int(ok) for q, ok in zip(questions, right)},
        "missing": matched.missing,
    }


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    return (
        f"MMVP: pair accuracy {scores['accuracy']:.2f}% ({scores['correct'] // 2} of "
        f"{scores['total'] // 2} pairs, {scores['individually_correct']} of {scores['total']} "
        "single answers)"
    )


def _asks(question: Question, prompt: str) -> bool:
    """Returns whether a record's prompt, a whole conversation, asks a question."""
    return question.tower_question in prompt or words(question.tower_question) in words(prompt)

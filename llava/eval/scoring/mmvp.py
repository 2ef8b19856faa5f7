"""MMVP's score: the share of pairs with both answers right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from llava.eval.benchmarks.mmvp import read_questions
from llava.eval.benchmarks.question import Question
from llava.eval.scoring import matching


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
) -> tuple[list[Question], matching.Matched]:
    """Reads the questions and matches the answers to them; see score_with."""
    records = [
        record | {"text": record["answer"]} for record in matching.need_fields(answers, ("answer",))
    ]
    questions = matching.keep_asked(read_questions(data_dir), asked, lambda question: question.key)
    ids = {question.key: question.question_id for question in questions}
    find = matching.find_by_id(
        questions, lambda q, prompt: matching.asks_within(q.tower_question, prompt)
    )
    return questions, matching.match(ids, records, find, allow_missing)


def numbers(data: tuple[list[Question], matching.Matched]) -> dict:
    """Returns the scores of matched answers.

    Returns:
        ``accuracy`` (per cent of the pairs), ``correct`` (twice the number of right pairs),
        ``total`` (questions), ``individually_correct``, ``questions`` (1 where right, by key),
        ``missing`` and ``incorrect`` (ids).
    """
    questions, matched = data
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


score = matching.score_with(match_answers, numbers)


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    return (
        f"MMVP: pair accuracy {scores['accuracy']:.2f}% ({scores['correct'] // 2} of "
        f"{scores['total'] // 2} pairs, {scores['individually_correct']} of {scores['total']} "
        "single answers)"
    )

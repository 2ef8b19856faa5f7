"""POPE's scores: precision, recall and F1 of "yes", per category and on average."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from llava.eval.benchmarks.pope import (
    CATEGORIES,
    LLAVA_FILE,
    LabelledQuestion,
    LabelledQuestions,
    object_of,
    read_labelled_questions,
)
from llava.eval.scoring import matching

# Without LLaVA's file, questions are numbered in the order of the labels, which is another one in
# POPE's current repository.
_ADVICE = (
    "is this the answers file of another one? Or does the folder lack LLaVA's "
    f"{LLAVA_FILE.name}, with labels in another order?"
)
_AVERAGED = ("accuracy", "precision", "recall", "f1", "yes_ratio")


def predicted_label(text: str) -> str:
    """Returns "no" if an answer's first sentence has the exact word No, no or not, else "yes".

    As in the official scorer, "NO", "Nope", "No!" and an empty answer are yes.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> tuple[LabelledQuestions, matching.Matched]:
    """Reads the labels and matches the answers to them; see score_with."""
    answers = matching.need_fields(answers)
    labelled = read_labelled_questions(data_dir)
    kept = matching.keep_asked(labelled.questions, asked, lambda item: item.question.key)
    labelled = replace(labelled, questions=kept)
    questions = [item.question for item in labelled.questions]
    ids = {question.key: question.question_id for question in questions}
    find = matching.find_by_id(
        questions,
        lambda q, prompt: object_of(prompt.split("\n", 1)[0]) == object_of(q.tower_question),
    )
    return labelled, matching.match(ids, answers, find, allow_missing, advice=_ADVICE)


def numbers(data: tuple[LabelledQuestions, matching.Matched]) -> dict:
    """Returns the scores of matched answers.

    Returns:
        ``categories`` and ``average`` (their plain mean), as fractions; ``reordered_labels``
        (categories whose label file is of another release than LLaVA's questions), ``questions``
        (1 where right, by key), ``missing`` (ids) and ``unasked`` (the number of labels that
        LLaVA's file leaves out).
    """
    labels, matched = data
    labelled = labels.questions
    given = {key: predicted_label(text) for key, text in matched.texts.items()}
    by_category = {c: [item for item in labelled if item.category == c] for c in CATEGORIES}
    categories = {c: _category_scores(items, given) for c, items in by_category.items() if items}
    means = {name: [scores[name] for scores in categories.values()] for name in _AVERAGED}
    return {
        "categories": categories,
        "average": {name: sum(values) / len(values) for name, values in means.items()},
        "reordered_labels": labels.reordered,
        "questions": {i.question.key: int(given.get(i.question.key) == i.answer) for i in labelled},
        "missing": matched.missing,
        "unasked": labels.unasked,
    }


score = matching.score_with(match_answers, numbers)


def headline(scores: dict) -> str:
    """Returns the scores in one line; POPE's quoted number is the mean of the three F1."""
    mean = scores["average"]
    note = ""
    if scores["reordered_labels"]:
        names = ", ".join(scores["reordered_labels"])
        note = f"; labels of another release ({names}) matched by question"
    note += matching.notes(scores)
    return (
        f"POPE: F1 {100 * mean['f1']:.2f} (accuracy {100 * mean['accuracy']:.2f}, yes ratio "
        f"{100 * mean['yes_ratio']:.1f}%{note})"
    )


def _category_scores(items: Sequence[LabelledQuestion], given: Mapping[str, str]) -> dict:
    """Returns a category's scores; "yes" is the positive class, and a missing answer is wrong."""
    wrong = {"yes": "no", "no": "yes"}
    pairs = [(given.get(item.question.key, wrong[item.answer]), item.answer) for item in items]
    tp, fp = pairs.count(("yes", "yes")), pairs.count(("yes", "no"))
    tn, fn = pairs.count(("no", "no")), pairs.count(("no", "yes"))
    said = [given[item.question.key] for item in items if item.question.key in given]
    # The official script stops with a division by zero if no answer is "yes".
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    return {
        "samples": len(said),
        "TP": tp,
        "FP": fp,
        "TN": tn,
        "FN": fn,
        "accuracy": (tp + tn) / len(items),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if tp else 0.0,
        "yes_ratio": said.count("yes") / len(said) if said else 0.0,
    }

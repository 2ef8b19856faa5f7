"""GQA's scores: accuracy, by exact comparison, and further metrics that the data allow."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from llava.errors import UserError
from llava.eval.benchmarks.gqa import (
    HOME,
    LLAVA_FILE,
    Annotation,
    Choices,
    read_annotations,
    read_choices,
)
from llava.eval.scoring import matching

# Questions of the type "...Common" ask what two things share.
_COMMON = Choices(["color", "material", "shape"], ["color", "material", "shape"])
# Operations that are not reasoning steps.
_NO_STEP = ("exist", "query: name", "choose name")


def predicted_answer(text: str) -> str:
    """Returns an answer as LLaVA's converter writes it: no dots at its end, in lower case.

    Nothing else is removed, so "Yes. " (with a space), "yes!" and "a dog" are wrong.
    """
    return text.rstrip(".").lower()


class Data(NamedTuple):
    """The labels of the questions that were asked, their choices if any, and the answers."""

    annotations: list[Annotation]
    choices: dict[str, Choices] | None
    matched: matching.Matched


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> Data:
    """Reads the labels and matches the answers to them; see score_with."""
    answers = matching.need_fields(answers)
    annotations = read_annotations(data_dir)
    every = LLAVA_FILE.asked(data_dir, [annotation.question for annotation in annotations])
    questions, scored, unasked = matching.choose_scored(every, annotations, asked)
    ids = {question.key: question.question_id for question in questions}
    balanced = [item.id for item in scored if item.balanced]
    if not balanced:
        raise UserError(f"no question in {data_dir} is balanced, and only those count: see {HOME}")
    choices = read_choices(data_dir)
    lacking = [question_id for question_id in balanced if question_id not in (choices or ids)]
    if lacking:
        raise UserError(
            f"testdev_balanced_choices.json lacks {len(lacking)} questions "
            f"({matching.first(lacking)}): it belongs to other annotations, get both again or "
            "remove it"
        )
    find = matching.find_by_id([*(annotation.question for annotation in scored), *questions])
    optional = ids.keys() - set(balanced)
    matched = matching.match(
        ids, answers, find, allow_missing, optional, ignore_unknown=True, unasked=unasked
    )
    return Data(scored, choices, matched)


def numbers(data: Data) -> dict:
    """Returns the scores of matched answers; answers to other questions are ignored.

    Returns:
        ``accuracy``, ``binary``, ``open``, ``validity``, ``plausibility`` and, if all entailed
        questions exist and are answered, ``consistency``, in per cent; ``distribution`` (lower is
        better); accuracies per type; ``questions`` (1 where right, by key) and ``missing`` (ids),
        both of balanced questions only; ``unscored`` (ids of answers to other questions) and
        ``unasked`` (the number of annotations that LLaVA's file leaves out). Without choices
        validity and plausibility are 0, as the script that LLaVA recommends prints them.
    """
    annotations, choices, matched = data
    balanced = [item for item in annotations if item.balanced]
    given = {key: predicted_answer(text) for key, text in matched.texts.items()}
    right = {item.id: given.get(item.id) == item.answer for item in annotations}
    return {
        "accuracy": _percent([right[item.id] for item in balanced]),
        "binary": _percent([right[item.id] for item in balanced if item.structural != "query"]),
        "open": _percent([right[item.id] for item in balanced if item.structural == "query"]),
        **_validity(balanced, given, choices),
        **_consistency(annotations, given, right),
        "distribution": _distribution(balanced, given),
        "accuracyPerStructuralType": _accuracies(balanced, right, lambda item: item.structural),
        "accuracyPerSemanticType": _accuracies(balanced, right, lambda item: item.semantic),
        "accuracyPerSteps": _accuracies(balanced, right, count_steps),
        "accuracyPerLength": _accuracies(
            balanced, right, lambda item: len(item.question.tower_question.split())
        ),
        "questions": {item.id: int(right[item.id]) for item in balanced},
        "missing": matched.missing,
        "unscored": matched.unscored,
        "unasked": matched.unasked,
    }


score = matching.score_with(match_answers, numbers)


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    return (
        f"GQA: accuracy {scores['accuracy']:.2f}% (binary {scores['binary']:.2f}, open "
        f"{scores['open']:.2f}{matching.notes(scores)})"
    )


def count_steps(annotation: Annotation) -> int:
    """Counts the reasoning steps of a question."""
    return sum(not any(mark in text for mark in _NO_STEP) for text in annotation.operations)


def _percent(values: Sequence[float]) -> float:
    """Returns the mean in per cent; 0 for no values, as in the official script."""
    return 100 * sum(values) / len(values) if values else 0.0


def _accuracies(
    balanced: Sequence[Annotation],
    right: Mapping[str, bool],
    kind: Callable[[Annotation], str | int],
) -> dict[str, dict]:
    groups = defaultdict(list)
    for item in balanced:
        groups[kind(item)].append(right[item.id])
    return {
        str(name): {"accuracy": _percent(groups[name]), "questions": len(groups[name])}
        for name in sorted(groups)
    }


def _validity(
    balanced: Sequence[Annotation],
    given: Mapping[str, str],
    choices: Mapping[str, Choices] | None,
) -> dict[str, float]:
    if choices is None:
        return {"validity": 0.0, "plausibility": 0.0}
    allowed = [_COMMON if "Common" in item.detailed else choices[item.id] for item in balanced]
    pairs = [(given.get(item.id), lists) for item, lists in zip(balanced, allowed)]
    return {
        "validity": _percent([answer in lists.valid for answer, lists in pairs]),
        "plausibility": _percent([answer in lists.plausible for answer, lists in pairs]),
    }


def _consistency(
    annotations: Sequence[Annotation], given: Mapping[str, str], right: Mapping[str, bool]
) -> dict[str, float]:
    """Returns the share of questions entailed by a right answer that are answered right.

    It needs all entailed questions and an answer to every question, unbalanced ones included; the
    real testdev_balanced does not have them.
    """
    entailed = {
        item.id: [other for other in item.entailed if other != item.id]
        for item in annotations
        if item.balanced
    }
    known = all(other in right for others in entailed.values() for other in others)
    if not known or any(item.id not in given for item in annotations):
        return {}
    # A question listed twice counts twice, as in the official script.
    means = [
        sum(right[other] for other in others) / len(others)
        for question_id, others in entailed.items()
        if right[question_id] and others
    ]
    return {"consistency": _percent(means)}


def _distribution(balanced: Sequence[Annotation], given: Mapping[str, str]) -> float:
    """Returns the distance of the answers' distribution from the right one: chi-square per group.

    Answers that are right for no question of their group are ignored, as in the official script.
    """
    gold: dict[str, Counter] = defaultdict(Counter)
    predicted: dict[str, Counter] = defaultdict(Counter)
    for item in balanced:
        if item.group is not None:
            gold[item.group][item.answer] += 1
            predicted[item.group][given.get(item.id)] += 1
    total = sum(counts.total() for counts in gold.values())
    if not total:
        return 0.0
    weighted = sum(
        counts.total()
        * sum((predicted[group][answer] - count) ** 2 / count for answer, count in counts.items())
        for group, counts in gold.items()
    )
    return weighted / total / 100

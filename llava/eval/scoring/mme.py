"""MME's scores: per task 100 times the accuracy, plus that of images with both answers right."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from llava.eval.benchmarks.mme import (
    COGNITION,
    PERCEPTION,
    Label,
    finder,
    question_key,
    read_labelled_questions,
)
from llava.eval.benchmarks.question import Question
from llava.eval.scoring import matching

_TASKS = PERCEPTION + COGNITION
_BEST = 200  # highest score of a task
_Item = tuple[Question, Label]


def predicted_label(text: str) -> str:
    """Returns the label of an answer: "yes", "no" or "other".

    The official scorer looks for "yes", then "no", in the first four characters: "Eyes" is yes,
    "know" and "None" are no, "I think yes" is neither. An answer with a tab or newline breaks the
    official files, which have a line per answer; here it is read like any other.
    """
    start = text.lower()[:4]
    return next((label for label in ("yes", "no") if label in start), "other")


def match_answers(
    data_dir: Path,
    answers: list[dict],
    allow_missing: bool = False,
    asked: Collection[str] | None = None,
) -> tuple[list[_Item], matching.Matched]:
    """Reads the labels and matches the answers to them; see score_with."""
    answers = matching.need_fields(answers, ("prompt", "text"))
    labelled, unasked = read_labelled_questions(data_dir)
    labelled = matching.keep_asked(labelled, asked, lambda item: item[0].key)
    keys = {question.key: question.key for question, _ in labelled}
    find = finder(keys)

    def find_record(record: dict) -> str | None:
        return find(question_key(record["question_id"], record["prompt"]))

    return labelled, matching.match(keys, answers, find_record, allow_missing, unasked=unasked)


def numbers(data: tuple[list[_Item], matching.Matched]) -> dict:
    """Returns the scores of matched answers.

    Returns:
        ``perception`` (of 2000), ``cognition`` (of 800), ``total``, ``tasks`` (only those that were
        asked: the sums of a limited run are over fewer), ``questions`` (1 where right, by key),
        ``missing`` (keys: the ids are not unique) and ``unasked`` (the number of labels that
        LLaVA's file leaves out).
    """
    labelled, matched = data
    given = {key: predicted_label(text) for key, text in matched.texts.items()}
    by_task = {task: [item for item in labelled if item[1].task == task] for task in _TASKS}
    tasks = {task: _task_scores(items, given) for task, items in by_task.items() if items}
    perception = sum(tasks[task]["score"] for task in PERCEPTION if task in tasks)
    cognition = sum(tasks[task]["score"] for task in COGNITION if task in tasks)
    return {
        "perception": perception,
        "cognition": cognition,
        "total": perception + cognition,
        "tasks": tasks,
        "questions": {
            question.key: int(given.get(question.key) == label.answer)
            for question, label in labelled
        },
        "missing": matched.missing,
        "unasked": matched.unasked,
    }


score = matching.score_with(match_answers, numbers)


def headline(scores: dict) -> str:
    """Returns the scores in one line."""
    most = [_BEST * sum(task in scores["tasks"] for task in ts) for ts in (PERCEPTION, COGNITION)]
    return (
        f"MME: perception {scores['perception']:.2f} of {most[0]}, cognition "
        f"{scores['cognition']:.2f} of {most[1]} (total {scores['total']:.2f}"
        f"{matching.notes(scores)})"
    )


def _task_scores(items: Sequence[_Item], given: Mapping[str, str]) -> dict:
    """Returns a task's scores by their official names; "other" and missing answers are wrong.

    Precision and recall of "yes" leave these out.
    """
    pairs = [(given.get(question.key, "other"), label.answer) for question, label in items]
    tp, fn = pairs.count(("yes", "yes")), pairs.count(("no", "yes"))
    tn, fp = pairs.count(("no", "no")), pairs.count(("yes", "no"))
    images: dict[str, bool] = {}
    for (_, label), (said, answer) in zip(items, pairs):
        images[label.image] = images.get(label.image, True) and said == answer
    acc = (tp + tn) / len(items)
    acc_plus = sum(images.values()) / len(images)
    return {
        "TP": tp,
        "FN": fn,
        "TN": tn,
        "FP": fp,
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "other_num": len(items) - tp - fn - tn - fp,
        "acc": acc,
        "acc_plus": acc_plus,
        "score": 100 * acc + 100 * acc_plus,
        "scored_questions": len(items),
        "result_lines": sum(question.key in given for question, _ in items),
        "images_in_denominator": len(images),
    }

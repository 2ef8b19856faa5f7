"""MME's scores: per task 100 times the accuracy plus 100 times the share of images all right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from llava.eval.benchmarks.mme import COGNITION, PERCEPTION, Label, question_key, read_labels
from llava.eval.scoring.matching import match, need_fields


def predicted_label(text: str) -> str:
    """What an answer says: "yes", "no" or "other".

    The official scorer looks for "yes", then "no", in the first four characters: "Eyes" is yes,
    "know" and "None" are no, "I think yes" is neither. Official files have a line per answer, so
    that an answer with a tab or newline breaks them; here it is read like any other.
    """
    start = text.lower()[:4]
    return next((label for label in ("yes", "no") if label in start), "other")


def score(data_dir: Path, answers: list[dict], allow_missing: bool = False) -> dict:
    """Scores answers, matched to questions by image and question.

    Args:
        data_dir: MME's folder; of it the release is read.
        answers: records of LLaVA's answers file; with duplicates the last one counts.
        allow_missing: count questions without an answer as wrong instead of refusing.

    Returns:
        ``perception`` (of 2000), ``cognition`` (of 800), ``total``, ``tasks``, ``questions`` (1
        where right, by key) and ``missing`` (keys: the ids are not unique).

    Raises:
        UserError: files or records that are not right, answers missing or to other questions.
    """
    need_fields(answers, ("prompt", "text"))
    labels = read_labels(data_dir)
    keys = {label.key: label.key for label in labels}

    def find(record: dict) -> str | None:
        return keys.get(question_key(record["question_id"], record["prompt"]))

    matched = match(keys, answers, find, allow_missing)
    given = {key: predicted_label(text) for key, text in matched.texts.items()}
    tasks = {
        task: _task_scores([label for label in labels if label.task == task], given)
        for task in PERCEPTION + COGNITION
    }
    perception = sum(tasks[task]["score"] for task in PERCEPTION)
    cognition = sum(tasks[task]["score"] for task in COGNITION)
    return {
        "perception": perception,
        "cognition": cognition,
        "total": perception + cognition,
        "tasks": tasks,
        "questions": {label.key: int(given.get(label.key) == label.answer) for label in labels},
        "missing": matched.missing,
    }


def headline(scores: dict) -> str:
    """The scores in one line."""
    return (
        f"MME: perception {scores['perception']:.2f} of 2000, cognition {scores['cognition']:.2f} "
        f"of 800 (total {scores['total']:.2f})"
    )


def _task_scores(labels: Sequence[Label], given: Mapping[str, str]) -> dict:
    """One task under the official scorer's names; "other" answers and missing ones are wrong.

    Precision and recall, of "yes", leave these out.
    """
    pairs = [(given.get(label.key, "other"), label.answer) for label in labels]
    tp, fn = pairs.count(("yes", "yes")), pairs.count(("no", "yes"))
    tn, fp = pairs.count(("no", "no")), pairs.count(("yes", "no"))
    images: dict[str, bool] = {}
    for label, (said, answer) in zip(labels, pairs):
        images[label.image] = images.get(label.image, True) and said == answer
    acc = (tp + tn) / len(labels)
    acc_plus = sum(images.values()) / len(images)
    return {
        "TP": tp,
        "FN": fn,
        "TN": tn,
        "FP": fp,
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "other_num": len(labels) - tp - fn - tn - fp,
        "acc": acc,
        "acc_plus": acc_plus,
        "score": 100 * acc + 100 * acc_plus,
        "scored_questions": len(labels),
        "result_lines": sum(label.key in given for label in labels),
        "images_in_denominator": len(images),
    }

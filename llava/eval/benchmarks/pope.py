"""POPE: is this object in the image? Yes or no, for objects chosen in three ways."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llava.constants import SHORT_ANSWER_SUFFIX
from llava.errors import UserError, quoted
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.names import words
from llava.eval.benchmarks.native import need, need_texts
from llava.eval.benchmarks.question import Question
from llava.utils.jsonl import read_lines

HOME = "https://github.com/AoiDragon/POPE/tree/e3e39262c85a6a83f26cf5094022a782cb0df58d"
LAYOUT = (
    "POPE's folder holds coco/coco_pope_adversarial.json, coco_pope_popular.json and "
    "coco_pope_random.json and the images in val2014, and may hold llava_pope_test.jsonl"
)
CATEGORIES = ("adversarial", "popular", "random")
QUESTION_FILE = "llava_pope_test.jsonl"
# Finds the object in the words of a question: releases differ in "imange" and "image".
_OBJECT = re.compile(r"is there (?:an? |any |the )?(.+?) in (?:the|this) (?:im|pic|photo)\w*")

answer_record = llava_files.answer_record


@dataclass(frozen=True)
class Label:
    """One line of a label file: file name of the image, question, "yes" or "no"."""

    image: str
    question: str
    answer: str

    @property
    def subject(self) -> tuple[str, str]:
        """The image and the object that the question is about."""
        return self.image, object_of(self.question)


@dataclass(frozen=True)
class LabelledQuestion:
    """A question with its label and its category."""

    question: Question
    category: str
    answer: str

    @property
    def subject(self) -> tuple[str, str]:
        """The image and the object that the question is about."""
        return self.question.image_name, object_of(self.question.tower_question)


@dataclass(frozen=True)
class LabelledQuestions:
    """All questions with their labels.

    Attributes:
        questions: the questions in their order.
        reordered: categories whose labels have another order or other words.
        unasked: the number of labels without a question.
    """

    questions: list[LabelledQuestion]
    reordered: list[str]
    unasked: int


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """Reads all questions: LLaVA's file, else the label files in turn, which is the same.

    Raises:
        UserError: files are missing or not right.
    """
    path = llava_files.choose_question_file(data_dir / QUESTION_FILE, question_file)
    if path is not None:
        return llava_files.read_question_file(path, data_dir / "val2014")
    return [labelled.question for labelled in _from_labels(read_labels(data_dir), data_dir)]


def read_labels(data_dir: Path) -> dict[str, list[Label]]:
    """Reads the label files, by category.

    Raises:
        UserError: a file is missing, or a line is not a label.
    """
    labels = {}
    for category in CATEGORIES:
        path = need(data_dir / "coco" / f"coco_pope_{category}.json", LAYOUT, HOME)
        labels[category] = [_label(line, number, path) for number, line in read_lines(path)]
        if not labels[category]:
            raise UserError(f"{path} holds no label: get it again from {HOME}")
    return labels


def _label(line: dict | str, number: int, path: Path) -> Label:
    if isinstance(line, str):
        raise UserError(line)
    where = f"line {number} of {path}"
    record = need_texts(line, ("image", "text", "label"), where, ids=("image",))
    if record["label"] not in ("yes", "no"):
        raise UserError(f"{where}: label {quoted(record['label'])} is not yes or no")
    return Label(record["image"], record["text"], record["label"])


def read_labelled_questions(data_dir: Path) -> LabelledQuestions:
    """Returns the questions with their labels.

    POPE's current label files are longer than those that LLaVA's questions were made from, have
    another order, and correct a misspelling, so labels are looked up by image and object. Labels of
    questions that LLaVA's file does not have are left out.

    Raises:
        UserError: files are missing or not right, or a question has no label.
    """
    labels = read_labels(data_dir)
    path = data_dir / QUESTION_FILE
    if not os.path.isfile(path):
        return LabelledQuestions(_from_labels(labels, data_dir), [], 0)
    questions = llava_files.read_question_file(path, data_dir / "val2014")
    categories = [str(one.get("category")) for one in llava_files.read_question_records(path)]
    known = {category: _answers(labels[category], category) for category in CATEGORIES}
    labelled = []
    for question, category in zip(questions, categories, strict=True):
        item = LabelledQuestion(question, category, "")
        answer = known.get(category, {}).get(item.subject)
        if answer is None:
            raise UserError(
                f"question {quoted(question.question_id)} of {path} "
                f"({quoted(question.tower_question)} about {quoted(question.image_name)}, category "
                f"{quoted(category)}) has no label in {data_dir / 'coco'}: get the labels from "
                f"{HOME}"
            )
        labelled.append(replace(item, answer=answer))
    asked = {(item.category, item.subject) for item in labelled}
    unasked = sum((c, label.subject) not in asked for c in CATEGORIES for label in labels[c])
    reordered = [c for c in CATEGORIES if _is_reordered(labelled, c, labels[c])]
    return LabelledQuestions(labelled, reordered, unasked)


def object_of(question: str) -> str:
    """Returns the object that a question asks for; all its words if it has another form."""
    text = words(question)
    found = _OBJECT.fullmatch(text)
    return found[1] if found else text


def _answers(labels: Sequence[Label], category: str) -> Mapping[tuple[str, str], str]:
    answers: dict[tuple[str, str], str] = {}
    for label in labels:
        if answers.setdefault(label.subject, label.answer) != label.answer:
            raise UserError(
                f"coco_pope_{category}.json has both labels for {quoted(label.question)} about "
                f"{quoted(label.image)}: get it again from {HOME}"
            )
    return answers


def _is_reordered(
    labelled: Sequence[LabelledQuestion], category: str, labels: Sequence[Label]
) -> bool:
    asked = [item.question for item in labelled if item.category == category]
    names = [(question.image_name, question.tower_question) for question in asked]
    return names != [(label.image, label.question) for label in labels[: len(names)]]


def _from_labels(labels: Mapping[str, Sequence[Label]], data_dir: Path) -> list[LabelledQuestion]:
    lines = [(category, label) for category in CATEGORIES for label in labels[category]]
    return [
        LabelledQuestion(
            llava_files.make_question(
                number, data_dir / "val2014" / label.image, label.question + SHORT_ANSWER_SUFFIX
            ),
            category,
            label.answer,
        )
        for number, (category, label) in enumerate(lines, start=1)
    ]

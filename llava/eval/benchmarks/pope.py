"""POPE: is this object in the image? Yes or no, for objects chosen in three ways."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llava.constants import SHORT_ANSWER_SUFFIX
from llava.errors import UserError, quoted
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.names import words
from llava.eval.benchmarks.question import Question, need, need_texts
from llava.utils.jsonl import read_objects

HOME = "https://github.com/AoiDragon/POPE/tree/e3e39262c85a6a83f26cf5094022a782cb0df58d"
LAYOUT = (
    "POPE's folder holds coco/coco_pope_adversarial.json, coco_pope_popular.json and "
    "coco_pope_random.json and the images in val2014, and may hold llava_pope_test.jsonl"
)
CATEGORIES = ("adversarial", "popular", "random")
LLAVA_FILE = llava_files.QuestionFile("llava_pope_test.jsonl", "val2014")
# Finds the object in the words of a question: releases differ in "imange" and "image".
_OBJECT = re.compile(r"is there (?:an? |any |the )?(.+?) in (?:the|this) (?:im|pic|photo)\w*")

answer_record = llava_files.answer_record


@dataclass(frozen=True)
class LabelledQuestion:
    """A question with its label and its category."""

    question: Question
    category: str
    answer: str

    @property
    def subject(self) -> tuple[str, str, str]:
        """The category, and the image and the object that the question is about."""
        question = self.question
        return self.category, question.image_name, object_of(question.tower_question)


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
    of_llava = LLAVA_FILE.read(data_dir, question_file)
    return of_llava or [label.question for label in read_labels(data_dir)]


def read_labels(data_dir: Path) -> list[LabelledQuestion]:
    """Reads the label files in turn, with questions that are numbered as LLaVA's are.

    Raises:
        UserError: a file is missing, or a line is not a label.
    """
    labels: list[LabelledQuestion] = []
    for category in CATEGORIES:
        path = need(data_dir / "coco" / f"coco_pope_{category}.json", LAYOUT, HOME)
        records = [_record(line, f"line {number} of {path}") for number, line in read_objects(path)]
        if not records:
            raise UserError(f"{path} holds no label: get it again from {HOME}")
        for number, record in enumerate(records, start=len(labels) + 1):
            prompt = record["text"] + SHORT_ANSWER_SUFFIX
            image = data_dir / LLAVA_FILE.images / record["image"]
            question = llava_files.make_question(number, image, prompt)
            labels.append(LabelledQuestion(question, category, record["label"]))
    return labels


def _record(line: dict, where: str) -> dict:
    record = need_texts(line, ("image", "text", "label"), where, ids=("image",))
    if record["label"] not in ("yes", "no"):
        raise UserError(f"{where}: label {quoted(record['label'])} is not yes or no")
    return record


def read_labelled_questions(data_dir: Path) -> LabelledQuestions:
    """Returns the questions with their labels.

    POPE's current label files are longer than those that LLaVA's questions were made from, have
    another order, and correct a misspelling, so labels are looked up by image and object. Labels of
    questions that LLaVA's file does not have are left out.

    Raises:
        UserError: files are missing or not right, or a question has no label.
    """
    labels = read_labels(data_dir)
    questions = LLAVA_FILE.read(data_dir)
    if questions is None:
        return LabelledQuestions(labels, [], 0)
    path = data_dir / LLAVA_FILE.name
    categories = [str(one.get("category")) for one in llava_files.read_question_records(path)]
    answers = _answers(labels)
    labelled = []
    for question, category in zip(questions, categories, strict=True):
        item = LabelledQuestion(question, category, "")
        if item.subject not in answers:
            raise UserError(
                f"question {quoted(question.question_id)} of {path} "
                f"({quoted(question.tower_question)} about {quoted(question.image_name)}, category "
                f"{quoted(category)}) has no label in {data_dir / 'coco'}: get the labels from "
                f"{HOME}"
            )
        labelled.append(replace(item, answer=answers[item.subject]))
    asked = {item.subject for item in labelled}
    unasked = sum(label.subject not in asked for label in labels)
    # LLaVA's questions follow the labels of the first release.
    pairs = {c: (_of(labelled, c), _of(labels, c)) for c in CATEGORIES}
    reordered = [c for c, (ours, theirs) in pairs.items() if ours != theirs[: len(ours)]]
    return LabelledQuestions(labelled, reordered, unasked)


def object_of(question: str) -> str:
    """Returns the object that a question asks for; all its words if it has another form."""
    text = words(question)
    found = _OBJECT.fullmatch(text)
    return found[1] if found else text


def _answers(labels: Sequence[LabelledQuestion]) -> Mapping[tuple[str, str, str], str]:
    answers: dict[tuple[str, str, str], str] = {}
    for label in labels:
        if answers.setdefault(label.subject, label.answer) != label.answer:
            raise UserError(
                f"coco_pope_{label.category}.json has both labels for "
                f"{quoted(label.question.tower_question)} about "
                f"{quoted(label.question.image_name)}: get it again from {HOME}"
            )
    return answers


def _of(items: Sequence[LabelledQuestion], category: str) -> list[tuple[str, str]]:
    """Returns image and question of the items of a category."""
    questions = [item.question for item in items if item.category == category]
    return [(question.image_name, question.tower_question) for question in questions]

"""GQA (testdev_balanced): questions about scenes, with short answers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from llava.constants import SHORT_ANSWER_SUFFIX
from llava.errors import UserError, quoted
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.names import is_name
from llava.eval.benchmarks.question import Question, need, need_texts
from llava.files import read_json

HOME = "https://cs.stanford.edu/people/dorarad/gqa/download.html"
LAYOUT = (
    "GQA's folder holds data/testdev_balanced_questions.json and the images in data/images, and "
    "may hold llava_gqa_testdev_balanced.jsonl and data/testdev_balanced_choices.json"
)

LLAVA_FILE = llava_files.QuestionFile("llava_gqa_testdev_balanced.jsonl", "data/images")

answer_record = llava_files.answer_record


@dataclass(frozen=True)
class Annotation:
    """A question with GQA's annotation of it.

    Attributes:
        question: the question for the engine.
        answer: the right answer.
        balanced: whether it is scored; the others only serve consistency.
        group: global group of the question, or None.
        detailed: the most detailed type of the question.
        semantic: the subject of the question: object, attribute, category, relation or global.
        structural: the form of the question: verify, query, choose, logical or compare.
        operations: reasoning steps, as "operation: argument".
        entailed: ids of the questions whose answers follow from this one's.
    """

    question: Question
    answer: str
    balanced: bool
    group: str | None
    detailed: str
    semantic: str
    structural: str
    operations: list[str]
    entailed: list[str]

    @property
    def id(self) -> str:
        """The question's id, which is also its key."""
        return self.question.key


@dataclass(frozen=True)
class Choices:
    """The valid answers to a question, and the plausible ones."""

    valid: list[str]
    plausible: list[str]


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """Reads all questions: LLaVA's file, else the annotations, each in its own order.

    The order of LLaVA's file cannot be derived from the annotations.

    Raises:
        UserError: files are missing or not right.
    """
    of_llava = LLAVA_FILE.read(data_dir, question_file)
    return of_llava or [annotation.question for annotation in read_annotations(data_dir)]


def read_annotations(data_dir: Path) -> list[Annotation]:
    """Reads all annotations, in the order of their file.

    Raises:
        UserError: the file is missing or not right.
    """
    path = need(data_dir / "data" / "testdev_balanced_questions.json", LAYOUT, HOME)
    images = data_dir / "data" / "images"
    annotations = [
        _annotation(question_id, record, images, f"question {quoted(question_id)} of {path}")
        for question_id, record in read_json(path).items()
    ]
    if not annotations:
        raise UserError(f"{path} holds no questions: get it from {HOME}")
    return annotations


def _annotation(question_id: str, record: object, images: Path, where: str) -> Annotation:
    if not is_name(question_id):
        raise UserError(f"{where}: it cannot be an id (a text of Unicode in one line): mend it")
    record = need_texts(record, ("question", "imageId", "answer"), where, ids=("imageId",))
    types = need_texts(record.get("types"), ("detailed", "semantic", "structural"), where)
    steps, entailed = record.get("semantic"), record.get("entailed")
    groups, balanced = record.get("groups"), record.get("isBalanced")
    if not (
        isinstance(steps, list)
        and isinstance(entailed, list)
        and isinstance(groups, dict)
        and isinstance(balanced, bool)
    ):
        raise UserError(f"{where}: semantic, entailed, groups or isBalanced is not as GQA has it")
    if groups.get("global") is not None:
        need_texts(groups, ("global",), where)
    operations = [need_texts(step, ("operation", "argument"), where) for step in steps]
    return Annotation(
        question=llava_files.make_question(
            question_id,
            images / f"{record['imageId']}.jpg",
            record["question"] + SHORT_ANSWER_SUFFIX,
        ),
        answer=record["answer"],
        balanced=balanced,
        group=groups.get("global"),
        detailed=types["detailed"],
        semantic=types["semantic"],
        structural=types["structural"],
        operations=[f"{step['operation']}: {step['argument']}" for step in operations],
        entailed=[str(other) for other in entailed],
    )


def read_choices(data_dir: Path) -> dict[str, Choices] | None:
    """Reads the choices by question id; returns None without the file, as testdev comes.

    Raises:
        UserError: the file is not right.
    """
    path = data_dir / "data" / "testdev_balanced_choices.json"
    if not os.path.isfile(path):
        return None
    choices = {}
    for question_id, record in read_json(path).items():
        lists = record if isinstance(record, dict) else {}
        if not all(isinstance(lists.get(name), list) for name in ("valid", "plausible")):
            raise UserError(
                f"question {quoted(question_id)} of {path} lacks a list valid or plausible: get it "
                "again"
            )
        choices[question_id] = Choices(record["valid"], record["plausible"])
    return choices

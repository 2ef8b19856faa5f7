"""SEED-Bench: questions with four options about images and about frames of videos."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llava.constants import OPTION_LETTER_SUFFIX
from llava.errors import UserError
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.native import need, need_texts
from llava.eval.benchmarks.question import Question
from llava.files import read_json

HOME = "https://huggingface.co/datasets/AILab-CVC/SEED-Bench"
LAYOUT = (
    "SEED-Bench's folder holds SEED-Bench.json, the images in SEED-Bench-image and the videos' "
    "middle frames in SEED-Bench-video-image, and may hold llava-seed-bench.jsonl"
)
DATA_TYPES = ("image", "video")
_ID_OF_IMAGE = re.compile(r"[0-9]{1,18}")
_CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
_TEXTS = ("question_id", "question", "answer", "data_id", *_CHOICES)

answer_record = llava_files.answer_record


@dataclass(frozen=True)
class Annotation:
    """One question of SEED-Bench.json.

    Attributes:
        question: as the engine takes it.
        answer: the right letter.
        dimension: the ability that it tests.
        data_type: "image" or "video".
    """

    question: Question
    answer: str
    dimension: str
    data_type: str


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """All questions: LLaVA's file, else SEED-Bench.json in its order.

    Raises:
        UserError: files that are not there, or not right.
    """
    path = llava_files.choose_question_file(data_dir / "llava-seed-bench.jsonl", question_file)
    if path is not None:
        return llava_files.read_question_file(path, data_dir)
    return [annotation.question for annotation in read_annotations(data_dir)[1]]


def read_annotations(data_dir: Path) -> tuple[list[str], list[Annotation]]:
    """The names of the dimensions, in the order of their numbers, and all questions.

    Raises:
        UserError: SEED-Bench.json is not there, or not right.
    """
    path = need(data_dir / "SEED-Bench.json", LAYOUT, HOME)
    content = read_json(path)
    numbers, records = content.get("question_type"), content.get("questions")
    numbered = isinstance(numbers, dict) and all(isinstance(n, int) for n in numbers.values())
    if not numbered or not isinstance(records, list):
        raise UserError(f"{path} lacks question_type or questions: is it SEED-Bench's own file?")
    names = {number: name for name, number in numbers.items()}
    annotations = [
        _annotation(record, names, data_dir, f"question {place} of {path}")
        for place, record in enumerate(records, start=1)
    ]
    if len({annotation.question.key for annotation in annotations}) < max(1, len(records)):
        raise UserError(f"{path} has no question, or two with one question_id: get it from {HOME}")
    return [names[number] for number in sorted(names)], annotations


def _annotation(record: object, names: dict[int, str], data_dir: Path, where: str) -> Annotation:
    record = need_texts(record, _TEXTS, where)
    number, data_type = record.get("question_type_id"), record.get("data_type")
    if not isinstance(number, int) or number not in names or data_type not in DATA_TYPES:
        raise UserError(
            f"{where}: question_type_id {number!r} is not in question_type, or data_type "
            f"{data_type!r} is not image or video"
        )
    image = data_dir / "SEED-Bench-image" / record["data_id"]
    if data_type == "video":
        name = f"{number}_{record['question_id']}.png"
        image = data_dir / "SEED-Bench-video-image" / name
    options = [f"{letter}. {record[choice]}" for letter, choice in zip("ABCD", _CHOICES)]
    prompt = "\n".join([record["question"], *options]) + OPTION_LETTER_SUFFIX
    # Only the videos' ids ("v0") are texts in LLaVA's file; the official scorer looks for numbers.
    question_id = record["question_id"]
    question = llava_files.make_question(
        int(question_id) if _ID_OF_IMAGE.fullmatch(question_id) else question_id, image, prompt
    )
    return Annotation(question, record["answer"], names[number], data_type)

"""SEED-Bench: questions with four options about images and about frames of videos."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llava.constants import OPTION_LETTER_SUFFIX
from llava.errors import UserError, quoted
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.names import as_id
from llava.eval.benchmarks.question import Question, need, need_texts, need_unique
from llava.files import read_json

HOME = "https://huggingface.co/datasets/AILab-CVC/SEED-Bench"
LAYOUT = (
    "SEED-Bench's folder holds SEED-Bench.json, the images in SEED-Bench-image and the videos' "
    "middle frames in SEED-Bench-video-image, and may hold llava-seed-bench.jsonl"
)
DATA_TYPES = ("image", "video")
_ID_OF_IMAGE = re.compile(r"[0-9]{1,18}")
_CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
# It follows the first edition; the edition of November 2023 lacks some of its videos.
LLAVA_FILE = llava_files.QuestionFile("llava-seed-bench.jsonl", "")

answer_record = llava_files.answer_record


@dataclass(frozen=True)
class Annotation:
    """One question of SEED-Bench.json.

    Attributes:
        question: the question for the engine.
        answer: the right letter.
        dimension: the ability that the question tests.
        data_type: "image" or "video".
    """

    question: Question
    answer: str
    dimension: str
    data_type: str


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """Reads all questions: LLaVA's file, else SEED-Bench.json in its order.

    Raises:
        UserError: files are missing or not right.
    """
    of_llava = LLAVA_FILE.read(data_dir, question_file)
    return of_llava or [annotation.question for annotation in read_annotations(data_dir)[1]]


def read_annotations(data_dir: Path) -> tuple[list[str], list[Annotation]]:
    """Reads the names of the dimensions, in the order of their numbers, and all questions.

    Raises:
        UserError: SEED-Bench.json is missing or not right.
    """
    path = need(data_dir / "SEED-Bench.json", LAYOUT, HOME)
    content = read_json(path)
    names, records = _names_by_number(content.get("question_type")), content.get("questions")
    if names is None or not isinstance(records, list):
        raise UserError(
            f"{path} lacks question_type (a number for each name) or questions: is it SEED-Bench's "
            "own file?"
        )
    annotations = [
        _annotation(record, names, data_dir, f"question {place} of {path}")
        for place, record in enumerate(records, start=1)
    ]
    need_unique([annotation.question for annotation in annotations], path)
    return [names[number] for number in sorted(names)], annotations


def _names_by_number(numbers: object) -> dict[int, str] | None:
    if not isinstance(numbers, dict) or not all(type(n) is int for n in numbers.values()):
        return None
    names = {number: name for name, number in numbers.items()}
    return names if len(names) == len(numbers) else None


def _annotation(record: object, names: Mapping[int, str], data_dir: Path, where: str) -> Annotation:
    record = need_texts(
        record, ("question", "answer", "data_id", *_CHOICES), where, ids=("data_id",)
    )
    number, data_type = record.get("question_type_id"), record.get("data_type")
    if type(number) is not int or number not in names or data_type not in DATA_TYPES:
        raise UserError(
            f"{where}: question_type_id {quoted(number)} is not in question_type, or data_type "
            f"{quoted(data_type)} is not image or video: mend it, or get it again"
        )
    question_id = as_id(record.get("question_id"))
    if question_id is None or record["answer"] not in tuple("ABCD"):
        raise UserError(
            f"{where}: question_id {quoted(record.get('question_id'))} cannot be an id, or the "
            f"answer {quoted(record['answer'])} is none of A, B, C, D: mend it, or get it again"
        )
    image = data_dir / "SEED-Bench-image" / record["data_id"]
    if data_type == "video":
        image = data_dir / "SEED-Bench-video-image" / f"{number}_{question_id}.png"
    options = [f"{letter}. {record[choice]}" for letter, choice in zip("ABCD", _CHOICES)]
    prompt = "\n".join([record["question"], *options]) + OPTION_LETTER_SUFFIX
    # In LLaVA's file only videos have ids that are texts ("v0"); the official scorer wants numbers.
    is_digits = isinstance(question_id, str) and _ID_OF_IMAGE.fullmatch(question_id)
    question = llava_files.make_question(
        int(question_id) if is_digits else question_id, image, prompt
    )
    return Annotation(question, record["answer"], names[number], data_type)

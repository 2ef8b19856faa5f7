"""LLaVA's question files and answer records, which most of the benchmarks share.

A question file holds JSON lines with ``question_id``, ``image`` (below an image folder) and
``text``: a question, a newline and what form the answer shall have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.eval.lines import read_lines

MAX_NEW_TOKENS = 128


def key_by_id(question_id: int | str, prompt: str) -> str:
    """The key of a question whose id is unique."""
    return str(question_id)


def make_question(
    question_id: int | str,
    image: Path,
    prompt: str,
    key: Callable[[int | str, str], str] = key_by_id,
) -> Question:
    """A question as LLaVA's file has it; what stands before the first newline is the question."""
    return Question(
        key=key(question_id, prompt),
        question_id=question_id,
        image=image,
        prompt=prompt,
        tower_question=prompt.split("\n", 1)[0],
        max_new_tokens=MAX_NEW_TOKENS,
    )


def choose_question_file(default: Path, given: Path | None) -> Path | None:
    """The question file to read: the one that was named, or the default if it is there."""
    if given is not None:
        return given
    return default if default.is_file() else None


def read_question_records(path: Path) -> list[dict]:
    """The lines of a question file, each with question_id, image and text.

    Raises:
        UserError: no such file, not UTF-8, a line that is no question, or no question at all.
    """
    records = []
    for number, record in read_lines(path):
        if isinstance(record, str):
            raise UserError(record)
        texts = isinstance(record.get("image"), str) and isinstance(record.get("text"), str)
        if not (texts and is_id(record.get("question_id"))):
            raise UserError(
                f"line {number} of {path} is no question of LLaVA's: it needs question_id (a text "
                "or a whole number), image and text (texts)"
            )
        records.append(record)
    if not records:
        raise UserError(f"{path} holds no question: is it the right file?")
    return records


def read_question_file(
    path: Path, image_folder: Path, key: Callable[[int | str, str], str] = key_by_id
) -> list[Question]:
    """The questions of one of LLaVA's files, in its order.

    Args:
        path: the file.
        image_folder: what the images' paths are relative to.
        key: makes a question's key of its id and its prompt.

    Raises:
        UserError: as read_question_records, or two questions with one key.
    """
    questions = {}
    for record in read_question_records(path):
        question = make_question(
            record["question_id"], image_folder / record["image"], record["text"], key
        )
        if question.key in questions:
            raise UserError(
                f"{path} asks question {question.key!r} twice: answers could not be told apart, "
                "remove one of the two lines"
            )
        questions[question.key] = question
    return list(questions.values())


def is_id(value: object) -> bool:
    """Whether a JSON value can be a question's id."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def answer_record(question: Question, text: str, answer_id: str, model_id: str) -> dict:
    """One line of LLaVA's answers file."""
    return {
        "question_id": question.question_id,
        "prompt": question.prompt,
        "text": text,
        "answer_id": answer_id,
        "model_id": model_id,
        "metadata": {},
    }

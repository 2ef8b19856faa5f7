"""LLaVA's question files and answer records, which most of the benchmarks share.

A question file holds JSON lines with ``question_id``, ``image`` (below an image folder) and
``text``: a question, a newline and the requested form of the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llava.errors import UserError, quoted
from llava.eval.benchmarks.names import as_id, is_name, say_the_same
from llava.eval.benchmarks.question import Question, need_unique
from llava.utils.jsonl import read_objects

MAX_NEW_TOKENS = 128


def key_by_id(question_id: int | str, prompt: str) -> str:
    """Returns the key of a question whose id is unique."""
    return str(question_id)


def make_question(
    question_id: int | str,
    image: Path,
    prompt: str,
    key: Callable[[int | str, str], str] = key_by_id,
) -> Question:
    """Makes a question from LLaVA's record; the tower question ends at the first newline."""
    return Question(
        key=key(question_id, prompt),
        question_id=question_id,
        image=image,
        prompt=prompt,
        tower_question=prompt.split("\n", 1)[0],
        max_new_tokens=MAX_NEW_TOKENS,
    )


def read_question_records(path: Path) -> list[dict]:
    """Reads the lines of a question file, each with question_id, image and text.

    Raises:
        UserError: no such file, not UTF-8, a line that is not a question, or no question at all.
    """
    records = []
    for number, record in read_objects(path):
        question_id = as_id(record.get("question_id"))
        if question_id is None or not isinstance(record.get("text"), str):
            raise UserError(
                f"line {number} of {path} is no question of LLaVA's: it needs question_id (a text "
                "or a whole number), image and text (texts)"
            )
        if not is_name(record.get("image")):
            raise UserError(
                f"line {number} of {path} has the image {quoted(record.get('image'))}, which cannot"
                " be the name of a file: mend it"
            )
        records.append(record | {"question_id": question_id})
    if not records:
        raise UserError(f"{path} holds no question: is it the right file?")
    return records


def read_question_file(
    path: Path, image_folder: Path, key: Callable[[int | str, str], str] = key_by_id
) -> list[Question]:
    """Reads the questions of one of LLaVA's files, in its order.

    Args:
        path: the file.
        image_folder: the folder that image paths are relative to.
        key: makes a question's key from its id and its prompt.

    Raises:
        UserError: as read_question_records, or two questions have the same key.
    """
    questions = [
        make_question(record["question_id"], image_folder / record["image"], record["text"], key)
        for record in read_question_records(path)
    ]
    return need_unique(questions, path)


@dataclass(frozen=True)
class QuestionFile:
    """LLaVA's question file of a benchmark, which the benchmark's folder may lack.

    Attributes:
        name: its name.
        images: the folder below the benchmark's that its image paths are relative to.
        key: makes a question's key from its id and its prompt.
    """

    name: str
    images: str
    key: Callable[[int | str, str], str] = key_by_id

    def read(self, data_dir: Path, given: Path | None = None) -> list[Question] | None:
        """Returns the questions of the given file, or else of the folder's; None without one.

        Raises:
            UserError: as read_question_file.
        """
        path = given or data_dir / self.name
        if given is None and not os.path.isfile(path):
            return None
        return read_question_file(path, data_dir / self.images, self.key)

    def asked(self, data_dir: Path, labelled: Sequence[Question]) -> list[Question]:
        """Returns the questions to score: those of the file with labels; without the file all.

        Files of two editions fit together if an id means one question in both: the same image, or
        the same words. The file may have questions without a label, and leave out questions with
        one.

        Args:
            data_dir: the benchmark's folder.
            labelled: the benchmark's own questions.

        Raises:
            UserError: as read_question_file, or the two do not fit together.
        """
        asked = self.read(data_dir)
        if asked is None:
            return list(labelled)
        known = {question.key: question for question in labelled}
        pairs = [(question, known[question.key]) for question in asked if question.key in known]
        astray = [
            ours
            for ours, theirs in pairs
            if ours.image != theirs.image
            and not say_the_same(ours.tower_question, theirs.tower_question)
        ]
        if astray or not pairs:
            about = quoted(astray[0].question_id) if astray else "any of its ids"
            raise UserError(
                f"{data_dir / self.name} and the benchmark's own file mean different questions by "
                f"{about}: they are of two editions that do not go together, get both again"
            )
        return [ours for ours, _ in pairs]


def answer_record(question: Question, text: str, answer_id: str, model_id: str) -> dict:
    """Returns a line of LLaVA's answers file."""
    return {
        "question_id": question.question_id,
        "prompt": question.prompt,
        "text": text,
        "answer_id": answer_id,
        "model_id": model_id,
        "metadata": {},
    }

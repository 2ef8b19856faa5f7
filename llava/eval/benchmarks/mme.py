"""MME: fourteen tasks, with two yes-or-no questions about each image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from llava.constants import SHORT_ANSWER_SUFFIX, YES_OR_NO
from llava.errors import UserError, quoted
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.names import is_name, visible, words
from llava.eval.benchmarks.question import Question, need, need_unique
from llava.files import read_text

HOME = "https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation"
LAYOUT = (
    "MME's folder holds MME_Benchmark_release_version with a folder for each of the 14 tasks, and "
    "may hold llava_mme.jsonl"
)
PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = (
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
)
_RELEASE = "MME_Benchmark_release_version"
_IMAGE_TYPES = (".jpg", ".png", ".jpeg")

answer_record = llava_files.answer_record


@dataclass(frozen=True)
class Label:
    """One line of the release.

    Attributes:
        task: one of the fourteen.
        file: the text file that contains it, named like its image.
        question: the question without the answer format.
        answer: "yes" or "no".
    """

    task: str
    file: Path
    question: str
    answer: str

    @property
    def image(self) -> str:
        """The name of the image within the benchmark."""
        return _image_name(self.task, self.file.name)

    @property
    def key(self) -> str:
        """The question's key."""
        return f"{self.image} {self.question}"


def question_key(question_id: int | str, prompt: str) -> str:
    """Returns the key of a question; the id is not enough: both questions of an image share it.

    As in LLaVA's converter, the image is named by the task and the last part of the id up to its
    first dot.
    """
    task, _, path = str(question_id).partition("/")
    question = prompt.replace(SHORT_ANSWER_SUFFIX.strip(), "").replace(YES_OR_NO, "")
    return f"{_image_name(task, path)} {question.strip()}"


_LLAVA_FILE = llava_files.QuestionFile("llava_mme.jsonl", _RELEASE, question_key)


def scored_together(question: Question) -> int | str:
    """Returns the value that both questions of an image share: the score also counts images."""
    return question.question_id


def read_questions(data_dir: Path, question_file: Path | None = None) -> list[Question]:
    """Reads all questions: LLaVA's file in its order, else the tasks in the scorer's order.

    The order of LLaVA's file cannot be derived from the release. Without that file, the images of a
    task are sorted by name, and the questions of an image stay in the release's order.

    Raises:
        UserError: files are missing or not right.
    """
    of_llava = _LLAVA_FILE.read(data_dir, question_file)
    if of_llava is not None:
        return of_llava
    release = data_dir / _RELEASE
    return need_unique([_question(label, release) for label in read_labels(data_dir)], release)


def read_labelled_questions(data_dir: Path) -> tuple[list[tuple[Question, Label]], int]:
    """Returns the questions with their labels, and the number of labels without a question.

    Raises:
        UserError: files are missing or not right, a question has no label, or a task has no
            question.
    """
    labels = {label.key: label for label in read_labels(data_dir)}
    find = finder(labels)
    labelled = []
    for question in read_questions(data_dir):
        key = find(question.key)
        if key is None:
            raise UserError(
                f"question {quoted(question.key)} of {data_dir / _LLAVA_FILE.name} has no label in "
                f"{data_dir / _RELEASE}: get both from {HOME}"
            )
        labelled.append((question, labels[key]))
    lacking = {*PERCEPTION, *COGNITION} - {label.task for _, label in labelled}
    if lacking:
        raise UserError(
            f"{data_dir / _LLAVA_FILE.name} asks nothing of {', '.join(sorted(lacking))}: the "
            "score is a sum over all 14 tasks, get the file again or take it away"
        )
    return labelled, len(labels) - len({label.key for _, label in labelled})


def finder(keys: Iterable[str]) -> Callable[[str], str | None]:
    """Returns a function that finds a key: the same one, else the only one of the same words."""
    known = set(keys)
    respelt: dict[tuple[str, str], str | None] = {}
    for key in known:
        respelt[_words_of(key)] = None if _words_of(key) in respelt else key
    return lambda key: key if key in known else respelt.get(_words_of(key))


def _words_of(key: str) -> tuple[str, str]:
    """Splits a key into the image's name and the words, which are the same in all editions."""
    image, _, question = key.partition(" ")
    return image, words(question).removesuffix(" " + words(YES_OR_NO))


def read_labels(data_dir: Path) -> list[Label]:
    """Reads all questions of the release with their right answers.

    Raises:
        UserError: a task is missing, or a file does not have two questions.
    """
    labels = []
    for task in PERCEPTION + COGNITION:
        folder = need(data_dir / _RELEASE / task, LAYOUT, HOME)
        # Five of the tasks have texts and images in separate folders.
        apart = folder / "questions_answers_YN"
        files = visible((apart if os.path.isdir(apart) else folder).glob("*.txt"))
        if not files:
            raise UserError(f"{folder} holds no questions: {LAYOUT}; get it from {HOME}")
        for file in files:
            labels += _read_file(file, task)
    return labels


def _read_file(file: Path, task: str) -> list[Label]:
    if not is_name(file.name):
        raise UserError(
            f"{file.parent}/{quoted(file.name)}: its name is not Unicode in one line: rename it and"
            " its image, or unpack the archive again with the right character set"
        )
    lines = [line.strip() for line in read_text(file).split("\n") if line.strip()]
    if len(lines) != 2:
        raise UserError(f"{file} holds {len(lines)} questions instead of two: get it again")
    return [_label(line, file, task) for line in lines]


def _label(line: str, file: Path, task: str) -> Label:
    cells = line.split("\t")
    if len(cells) != 2 or cells[1].strip().lower() not in ("yes", "no"):
        raise UserError(
            f"{file}: expected a question, a tab and Yes or No, found {quoted(line)}: get it again"
        )
    question = cells[0].replace(YES_OR_NO, "").strip()
    return Label(task, file, question, cells[1].strip().lower())


def _question(label: Label, release: Path) -> Question:
    apart = label.file.parent.name == "questions_answers_YN"
    folder = label.file.parents[1] / "images" if apart else label.file.parent
    images = [folder / (label.file.stem + end) for end in _IMAGE_TYPES]
    # A missing image costs its two answers, not the run.
    image = next((path for path in images if os.path.isfile(path)), images[0])
    name = image.relative_to(release).as_posix()
    prompt = label.question + SHORT_ANSWER_SUFFIX
    return llava_files.make_question(name, image, prompt, question_key)


def _image_name(task: str, path: str) -> str:
    return f"{task}/{path.split('/')[-1].split('.')[0]}"

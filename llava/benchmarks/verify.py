"""Verifies the folder of a benchmark by reading it as a run and as its scoring read it.

So a folder with which nothing is wrong here can be answered and scored, and no other.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm.contrib.concurrent import thread_map

from llava.benchmarks.catalog import Benchmark
from llava.benchmarks.sources import ByHand
from llava.conversation import check_text
from llava.download.errors import read_errors
from llava.errors import UserError, quoted
from llava.eval.benchmarks.question import Question
from llava.eval.benchmarks.registry import reader, scorer
from llava.images import load_image

_THREADS = 4  # that open images; a large one takes a quarter of a gigabyte
_OTHER = "another edition, or cut short"


@dataclass(frozen=True)
class Finding:
    """The findings about a benchmark.

    Attributes:
        benchmark: which.
        folder: where.
        questions: how many.
        images: how many files of images they are about.
        missing: those of them that are not there or broken.
        problem: what is wrong; None where only what is to be got by hand is missing, or nothing.
        by_hand: what has to be done by hand.
        edition: what there is instead of the published edition's counts; None where they are right.
    """

    benchmark: Benchmark
    folder: Path
    questions: int = 0
    images: int = 0
    missing: int = 0
    problem: str | None = None
    by_hand: str | None = None
    edition: str | None = None

    @property
    def is_whole(self) -> bool:
        """Tells whether it can be answered and scored."""
        return self.problem is None and self.by_hand is None

    def __str__(self) -> str:
        name = self.benchmark.name
        if self.problem is not None:
            return f"BAD  {name}: {self.problem}"
        counts = f"{self.questions:,} questions"
        if self.images:
            counts += f", {self.images - self.missing:,} of {self.images:,} images"
        if self.by_hand is not None:
            return f"HAND {name}: {self.folder} ({counts}). {self.by_hand}"
        note = "" if self.edition is None else f": {self.edition}"
        return f"ok   {name}: {self.folder} ({counts}){note}"


def verify_benchmark(
    benchmark: Benchmark, folder: Path, decode: bool = False, any_edition: bool = False
) -> Finding:
    """Verifies that a folder can be answered and scored.

    Args:
        benchmark: of catalog.KNOWN.
        folder: the benchmark's own.
        decode: whether each image is opened as well; takes some 10 ms each.
        any_edition: whether other counts than the published ones are right, too.
    """
    try:
        with read_errors(folder):
            return _look(benchmark, folder, decode, any_edition)
    except UserError as error:
        return Finding(benchmark, folder, problem=str(error))


def _look(benchmark: Benchmark, folder: Path, decode: bool, any_edition: bool) -> Finding:
    questions = reader(benchmark.name).read_questions(folder)
    images = asked_images(questions)
    files = list(dict.fromkeys(question.image for question in questions))
    bar = {"desc": f"opening {benchmark.name}", "unit": "file", "disable": not decode}
    whole = thread_map(partial(is_there, decode=decode), files, max_workers=_THREADS, **bar)
    broken = {image for image, is_whole in zip(files, whole) if not is_whole}
    missing = [image for image in images if image in broken]
    waiting = [source for source in benchmark.sources if isinstance(source, ByHand)]
    left = [s for s in waiting if any(i.is_relative_to(folder / s.folder) for i in missing)]
    by_hand = " ".join(source.how.format(folder=folder) for source in left) or None
    there = [image for image in missing if os.path.exists(image)]
    if by_hand is not None and there:
        by_hand += f" {len(there):,} images are broken, the first is {there[0]}: remove it."
    edition = _miscounted(benchmark, folder, questions, images)
    problem = (
        (None if any_edition or edition is None else f"{folder} has {edition}: download it again")
        or _unscorable(benchmark.name, folder, questions)
        or _unanswerable(questions, broken, [folder / source.folder for source in left])
    )
    counts = (len(questions), len(images), len(missing))
    return Finding(benchmark, folder, *counts, problem, by_hand, edition)


def _unscorable(name: str, folder: Path, questions: Sequence[Question]) -> str | None:
    """Returns what the scoring would say of a full set of answers."""
    answers = [reader(name).answer_record(question, "", "", "") for question in questions]
    try:
        scorer(name).match_answers(folder, answers)
    except UserError as error:
        return str(error)
    return None


def _unanswerable(
    questions: Sequence[Question], broken: Collection[Path | bytes], by_hand: Sequence[Path]
) -> str | None:
    """Returns what a run would say of its questions, but for images that are to be got by hand."""
    for question in questions:
        try:
            check_text("question", question.prompt)
            check_text("part of it that the method's parts read", question.tower_question)
        except UserError as error:
            return f"question {quoted(question.key)}: {error}"
    cells = [question for question in questions if question.image in broken]
    cells = [question for question in cells if isinstance(question.image, bytes)]
    if cells:
        return (
            f"{len(cells):,} of {len(questions):,} pictures in the table cannot be opened, the "
            f"first is that of question {quoted(cells[0].key)}: download the table again"
        )
    images = asked_images(questions)
    astray = [i for i in images if i in broken and not any(map(i.is_relative_to, by_hand))]
    if not astray:
        return None
    then = ", which is broken: remove it, and" if os.path.exists(astray[0]) else ":"
    return (
        f"{len(astray):,} of {len(images):,} images are missing or broken, the first is "
        f"{astray[0]}{then} download again"
    )


def asked_images(questions: Sequence[Question]) -> list[Path]:
    """Returns the files of images that questions are about, each once."""
    images = (question.image for question in questions)
    return list(dict.fromkeys(image for image in images if isinstance(image, Path)))


def _miscounted(
    benchmark: Benchmark, folder: Path, questions: Sequence[Question], images: Sequence[Path]
) -> str | None:
    """Returns what there is instead, if the counts are not those of the published edition."""
    for below, count in benchmark.questions.items():
        places = (question.image for question in questions)
        found = sum(not isinstance(i, Path) or i.is_relative_to(folder / below) for i in places)
        if found != count:
            where = f" about images in {below}" if below else ""
            return f"{found:,} questions instead of {count:,}{where}: {_OTHER}"
    if benchmark.images is not None and len(images) != benchmark.images:
        return f"questions about {len(images):,} images instead of {benchmark.images:,}: {_OTHER}"
    return None


def is_there(image: Path | bytes, decode: bool = False) -> bool:
    """Tells whether an image is a file, or the bytes of one, that is not empty.

    Args:
        image: the file or the bytes.
        decode: whether it must be possible to open it, too.
    """
    if not (os.path.isfile(image) and os.path.getsize(image) if isinstance(image, Path) else image):
        return False
    if decode:
        try:
            load_image(image)
        except UserError:
            return False
    return True

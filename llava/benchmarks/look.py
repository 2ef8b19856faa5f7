"""What of a benchmark is there: its questions are read as a run reads them, its images sought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from llava.benchmarks.known import Benchmark
from llava.benchmarks.sources import ByHand
from llava.download.trouble import looking
from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.eval.benchmarks.registry import reader
from llava.mm_utils import load_image


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        benchmark: which.
        folder: where.
        questions: how many.
        images: how many files of images they are about.
        missing: those of them that are not there or broken.
        problem: what is wrong; None where only what is to be got by hand is missing, or nothing.
        by_hand: what has to be done by hand.
    """

    benchmark: Benchmark
    folder: Path
    questions: int = 0
    images: int = 0
    missing: int = 0
    problem: str | None = None
    by_hand: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it can be run."""
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
        return f"ok   {name}: {self.folder} ({counts})"


def look(benchmark: Benchmark, folder: Path, decode: bool = False) -> Finding:
    """Compares a folder with what is known of its benchmark.

    Args:
        benchmark: of known.KNOWN.
        folder: the benchmark's own.
        decode: whether each image is opened as well; takes some 10 ms each.
    """
    try:
        with looking(folder):
            return _look(benchmark, folder, decode)
    except UserError as error:
        return Finding(benchmark, folder, problem=str(error))


def _look(benchmark: Benchmark, folder: Path, decode: bool) -> Finding:
    questions = reader(benchmark.name).read_questions(folder)
    images = asked_images(questions)
    bar = tqdm(images, f"opening {benchmark.name}", unit="file", disable=not decode)
    missing = [image for image in bar if not is_there(image, decode)]
    waiting = [source for source in benchmark.sources if isinstance(source, ByHand)]
    left = [s for s in waiting if any(_is_in(image, folder / s.folder) for image in missing)]
    astray = [i for i in missing if not any(_is_in(i, folder / s.folder) for s in left)]
    problem = _miscounted(benchmark, folder, questions, images)
    if problem is None and astray:
        then = ", which is broken: remove it, and" if astray[0].exists() else ":"
        problem = (
            f"{len(astray):,} of {len(images):,} images are missing or broken, the first is "
            f"{astray[0]}{then} download again"
        )
    by_hand = " ".join(source.how.format(folder=folder) for source in left) or None
    broken = [image for image in missing if image.exists()]
    if by_hand is not None and broken:
        by_hand += f" {len(broken):,} images are broken, the first is {broken[0]}: remove it."
    return Finding(benchmark, folder, len(questions), len(images), len(missing), problem, by_hand)


def asked_images(questions: Sequence[Question]) -> list[Path]:
    """The files of images that questions are about, each once."""
    images = (question.image for question in questions)
    return list(dict.fromkeys(image for image in images if isinstance(image, Path)))


def _miscounted(
    benchmark: Benchmark, folder: Path, questions: Sequence[Question], images: Sequence[Path]
) -> str | None:
    """What the counts say, if they are not as known."""
    again = "another edition, or cut short: download it again"
    for below, count in benchmark.questions.items():
        found = Counter(_asks_in(question, folder / below) for question in questions)[True]
        if found != count:
            return f"{folder / below} has {found:,} questions instead of {count:,}: {again}"
    if benchmark.images is not None and len(images) != benchmark.images:
        return (
            f"the questions in {folder} are about {len(images):,} images instead of "
            f"{benchmark.images:,}: {again}"
        )
    return None


def _asks_in(question: Question, folder: Path) -> bool:
    return not isinstance(question.image, Path) or _is_in(question.image, folder)


def _is_in(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)


def is_there(image: Path, decode: bool = False) -> bool:
    """Whether an image is a file that is not empty.

    Args:
        decode: whether it must be possible to open it, too.
    """
    if not image.is_file() or not image.stat().st_size:
        return False
    if decode:
        try:
            load_image(image)
        except UserError:
            return False
    return True

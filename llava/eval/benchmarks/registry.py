"""The seven benchmarks by name, and the first of their questions, for a limited run (--limit)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from llava.constants import BENCHMARKS
from llava.errors import UserError, quoted
from llava.eval.benchmarks.question import Question

# Benchmark -> the names of its folder, LLaVA's (or ACCM's) name first.
FOLDERS = {
    "mme": ("MME", "mme"),
    "mmbench": ("mmbench",),
    "pope": ("pope",),
    "mmvp": ("mmvp", "MMVP"),
    "seed": ("seed_bench", "seed"),
    "gqa": ("gqa",),
    "flickr": ("Flickr", "flickr30k", "flickr"),
}
DATA_ROOT = "playground/data/eval"

# The number that a benchmark is quoted with, as a path in its scores; the first that exists.
MAIN_NUMBERS = {
    "mme": ("total",),
    "mmbench": ("overall",),
    "pope": ("average.f1",),
    "mmvp": ("accuracy",),
    "seed": ("total",),
    "gqa": ("accuracy",),
    "flickr": ("CIDEr", "five_references.CIDEr"),
}


LIMIT_HELP = (
    "Ask only the first so many questions of a benchmark, and those that are scored together with "
    "one of them. Default: all."
)


def reader(benchmark: str) -> ModuleType:
    """Returns the module that reads a benchmark: read_questions, answer_record, HOME, LAYOUT.

    If questions are scored in groups, it also has scored_together, which names a question's group.

    Raises:
        UserError: there is no such benchmark.
    """
    return _module("benchmarks", benchmark)


def scorer(benchmark: str) -> ModuleType:
    """Returns a benchmark's scorer: match_answers, score, headline; some have write_upload.

    Raises:
        UserError: there is no such benchmark.
    """
    return _module("scoring", benchmark)


def data_folder(benchmark: str, data_dir: str | None, data_root: str) -> Path:
    """Returns the folder of a benchmark: as given, else by its usual name under the root."""
    if data_dir is not None:
        return Path(data_dir)
    folders = [Path(data_root) / name for name in FOLDERS[benchmark]]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def main_number(benchmark: str, scores: dict) -> dict:
    """Returns the number that a benchmark is quoted with: its name and its value."""
    for path in MAIN_NUMBERS[benchmark]:
        value: object = scores
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return {"name": path, "value": value}
    raise KeyError(benchmark)


def _module(kind: str, benchmark: str) -> ModuleType:
    if benchmark not in BENCHMARKS:
        raise UserError(
            f"there is no benchmark {benchmark!r}; name one of: {', '.join(BENCHMARKS)}"
        )
    return import_module(f"llava.eval.{kind}.{benchmark}")


def first_questions(benchmark: str, questions: Sequence[Question], limit: int) -> list[Question]:
    """Returns the first questions, and the questions that are scored together with them.

    A pair of MMVP, the two questions of an image of MME and the rotations of a question of MMBench
    are never separated: a part would be scored by another rule than the whole.

    Args:
        benchmark: name of the benchmark.
        questions: all questions, in the order of their file.
        limit: how many to take before groups are completed.

    Raises:
        UserError: the limit is below 1.
    """
    if limit < 1:
        raise UserError(
            f"--limit is {limit}: give a number of questions from 1 on, or leave it out"
        )
    group_of = getattr(reader(benchmark), "scored_together", lambda question: question.key)
    begun = {group_of(question) for question in questions[:limit]}
    return [question for question in questions if group_of(question) in begun]


def limit_of(settings: dict | None, where: Path) -> int | None:
    """Returns the limit in a run's settings; None if all questions were asked, as by older runs.

    Args:
        settings: settings from run_settings; None if they are not known.
        where: the place of the settings, for the message.

    Raises:
        UserError: the limit in them is not a number of at least 1.
    """
    limit = (settings or {}).get("limit")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(
            f"the settings of {where} have the limit {quoted(limit)}, which is no number of "
            "questions: answer them again"
        )
    return limit

"""The seven benchmarks by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from llava.constants import BENCHMARKS
from llava.errors import UserError

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

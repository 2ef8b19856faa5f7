"""The seven benchmarks by name."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from llava.errors import UserError

BENCHMARKS = ("mme", "mmbench", "pope", "mmvp", "seed", "gqa", "flickr")

# The number that a benchmark is quoted with, as a path in its scores; the first that is there.
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
    """The module that reads a benchmark: read_questions, answer_record, HOME, LAYOUT.

    Raises:
        UserError: there is no such benchmark.
    """
    return _module("benchmarks", benchmark)


def scorer(benchmark: str) -> ModuleType:
    """The module that scores a benchmark: score, headline.

    Raises:
        UserError: there is no such benchmark.
    """
    return _module("scoring", benchmark)


def main_number(benchmark: str, scores: dict) -> dict:
    """The number that a benchmark is quoted with: its name and its value."""
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

"""A table of measured values, with a verdict on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llava.utils.cli import SOME_FAILED


@dataclass(frozen=True)
class Row:
    """A line of the table; ``is_good`` is None where there is nothing to reach."""

    name: str
    value: str
    is_good: bool | None = None


def print_rows(rows: Sequence[Row]) -> int:
    """Prints a table; returns an exit status, SOME_FAILED where something is not good."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        verdict = {None: "", True: "  good", False: "  BAD"}[row.is_good]
        print(f"{row.name:<{width}}  {row.value}{verdict}", flush=True)
    return SOME_FAILED if any(row.is_good is False for row in rows) else 0

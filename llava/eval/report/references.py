"""Published and recorded numbers, compared with those measured here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.eval.report.runs import BENCHMARKS, Run
from llava.files import read_json, read_text

TITLE = "Published and recorded numbers"
HEADINGS = ("Benchmark", "Model", "Method", "Tokens", "Number", "Measured", "Reference", "Source")
_TEXTS = ("benchmark", "model", "method", "number", "source")


@dataclass(frozen=True)
class Reference:
    """A number that others have published or recorded.

    Attributes:
        benchmark: one of BENCHMARKS.
        model: name of the model.
        method: as in Run.
        tokens: as in Run.
        number: its name in result files, as a path: "average.f1".
        value: the number itself.
        times: factor from the number in a result file to its unit.
        source: who found it, and where it is published.
    """

    benchmark: str
    model: str
    method: str
    tokens: int
    number: str
    value: float
    times: float
    source: str


@dataclass(frozen=True)
class Compared:
    """A reference and the number measured here; None if there is no such run."""

    reference: Reference
    measured: float | None

    def cells(self) -> tuple[str, ...]:
        """Returns the cells of a row under HEADINGS."""
        one = self.reference
        here = "-"
        if self.measured is not None:
            here = f"{self.measured:.2f} ({self.measured - one.value:+.2f})"
        return (
            BENCHMARKS[one.benchmark],
            one.model,
            one.method,
            str(one.tokens),
            one.number,
            here,
            f"{one.value:.2f}",
            one.source,
        )


def read_references(path: Path) -> list[Reference]:
    """Returns the references of a file.

    The file holds {"numbers": [{"benchmark": ..., the fields of Reference}, ...]}; ``times`` is 1
    by default.

    Raises:
        UserError: no such file, or it has another form.
    """
    numbers = read_json(path).get("numbers")
    if not isinstance(numbers, list):
        raise UserError(f"{path} has no list under 'numbers': it is no file of references")
    return [_reference(record, f"{path}, number {n}") for n, record in enumerate(numbers, start=1)]


def set_beside(references: Sequence[Reference], runs: Sequence[Run]) -> list[Compared]:
    """Returns each reference with the number of the run that it is about.

    That run has the same benchmark, model, method and tokens, and all questions.
    """
    whole = [run for run in runs if run.limit is None]
    by_kind = {(run.benchmark, run.model, run.method, run.tokens): run for run in whole}
    compared = []
    for one in references:
        run = by_kind.get((one.benchmark, one.model, one.method, one.tokens))
        value = None if run is None else number_of(run.path, one.number)
        compared.append(Compared(one, None if value is None else value * one.times))
    return compared


def explanation(compared: Sequence[Compared]) -> str:
    """Returns the explanation of the table for readers."""
    run = sum(one.measured is not None for one in compared)
    return f"{run} of these {len(compared)} were run here; in brackets, measured less reference."


def _reference(record: object, where: str) -> Reference:
    fields = record if isinstance(record, dict) else {}
    texts = all(isinstance(fields.get(name), str) for name in _TEXTS)
    numbers = {"value": fields.get("value"), "times": fields.get("times", 1)}
    if not texts or fields["benchmark"] not in list(BENCHMARKS):
        raise UserError(f"{where}: it needs texts under {', '.join(_TEXTS)}, and a known benchmark")
    if type(fields.get("tokens")) is not int or not all(
        type(value) in (int, float) for value in numbers.values()
    ):
        raise UserError(f"{where}: tokens must be a whole number, value and times numbers")
    return Reference(**{name: fields[name] for name in (*_TEXTS, "tokens")}, **numbers)


def number_of(path: Path, name: str) -> float | None:
    """Returns a number of a result file by its path; None if it does not exist."""
    value: Any = json.loads(read_text(path))
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None

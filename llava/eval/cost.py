"""What a method costs a question, measured: FILE.run/cost.json beside an answers file.

Like the sessions, it is for reports only: no answer, score or setting depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llava.errors import UserError
from llava.eval.journal import disk_errors, run_folder
from llava.files import read_json, write_json


@dataclass(frozen=True)
class Cost:
    """The cost of a question, asked alone: the mean over several questions.

    Attributes:
        questions: how many questions were timed.
        seconds: from image and question to answer, loading excluded; the median of some rounds.
        spread: half the difference of the slowest and the fastest round, as a share of the median.
        stages: seconds by stage, in their order.
        operations: of image tower, projector and LLM, by formula; a multiply-add counts as two.
        counted: all operations of the first question by torch's counter; None where CUDA graphs or
            compilation hide them.
        tokens_by_layer: visual tokens that each layer of the LLM reads.
        peak_bytes: peak memory of the first question beyond the weights; None if unknown.
        machine: where it was measured.
    """

    questions: int
    seconds: float
    spread: float
    stages: Mapping[str, float]
    operations: float
    counted: float | None
    tokens_by_layer: Sequence[float]
    peak_bytes: int | None
    machine: str

    @property
    def tokens(self) -> float:
        """The visual tokens that a layer of the LLM reads, on average."""
        return sum(self.tokens_by_layer) / len(self.tokens_by_layer)

    @property
    def schedule(self) -> str:
        """The visual tokens of the layers in words; empty where all layers read as many."""
        changes = [
            f"{tokens:.0f} from layer {layer}"
            for layer, tokens in enumerate(self.tokens_by_layer)
            if layer == 0 or tokens != self.tokens_by_layer[layer - 1]
        ]
        return ", ".join(changes) if len(changes) > 1 else ""


def write_cost(answers_file: Path, cost: Cost) -> None:
    """Writes the cost of a run's method.

    Raises:
        UserError: the disk is full or gone.
    """
    folder = run_folder(answers_file)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "cost.json", asdict(cost))


def read_cost(answers_file: Path) -> Cost | None:
    """Returns the cost beside an answers file; None if there is none, or of another form."""
    try:
        path = run_folder(answers_file) / "cost.json"
        made = read_json(path) if path.is_file() else {}
    except (OSError, ValueError, UserError):  # ValueError: an impossible file name
        return None
    if set(made) != {field.name for field in fields(Cost)} or not _is_sound(made):
        return None
    return Cost(**made)


def _is_sound(made: Mapping[str, object]) -> bool:
    stages, layers = made["stages"], made["tokens_by_layer"]
    if not isinstance(stages, dict) or not isinstance(layers, list) or not layers:
        return False
    optional = [made[name] for name in ("counted", "peak_bytes") if made[name] is not None]
    needed = [made[name] for name in ("questions", "seconds", "spread", "operations")]
    numbers = [*needed, *optional, *stages.values(), *layers]
    return isinstance(made["machine"], str) and all(map(_is_amount, numbers))


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value >= 0

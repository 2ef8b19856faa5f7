"""The flags that the commands about questions of the mini benchmarks share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.arguments import ModelArguments, flag, list_flag
from llava.budgets import AskedBudget
from llava.compensations import CAPTIONS, GRAPHS, NOTHING
from llava.errors import UserError
from llava.eval.benchmarks.registry import BENCHMARKS
from llava.files import check_target
from llava.method import DEFAULT_SEED

BUDGETS = (9, 12, 18, 24, 36, 48, 72, 108, 143)


@dataclass
class MeasuringArguments(ModelArguments):
    """Flags of what is asked."""

    data_root: str = flag("Folder of the benchmarks, as llava.mini.make_data writes it.")
    benchmarks: list[str] = list_flag("Which. Default: all.", BENCHMARKS)
    seed: int = flag("Seed of the one random draw of each question.", DEFAULT_SEED)
    batch_size: int = flag("Questions at once.", 64)
    limit: Optional[int] = flag("Questions of each benchmark, for a quick look. Default: all.")
    output: Optional[str] = flag("Where all numbers go, as JSON.")

    def check(self) -> None:
        """Refuses settings that cannot be measured.

        Raises:
            UserError: names the flag, and the reason.
        """
        if self.model_path is None or self.data_root is None:
            raise UserError(
                "say which model and which benchmarks: --model-path and --data-root FOLDER"
            )
        if self.compensation_name != CAPTIONS:
            raise UserError(
                f"without --compensation {CAPTIONS} there is nothing to measure: leave "
                "--compensation and --no-compensation out"
            )
        unknown = [name for name in self.benchmarks if name not in BENCHMARKS]
        if unknown or not self.benchmarks:
            names = ", ".join(BENCHMARKS)
            raise UserError(f"--benchmarks {' '.join(unknown)}: name some of {names}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit {self.limit}: say 1 or more")
        if self.output is not None:
            check_target(Path(self.output))


@dataclass
class ByBudgetArguments(MeasuringArguments):
    """Flags of the command."""

    budgets: list[AskedBudget] = list_flag(
        "Visual tokens that stay: numbers, or shares of all (1/9, 11%).", BUDGETS
    )
    true_and_false: bool = flag(
        "Let the LLM read true captions as well, and captions that are false in what is asked.",
        False,
    )


@dataclass
class GraphArguments(ModelArguments):
    """Flags of the command."""

    compensation: str = flag("What finds the triplets.", GRAPHS, off=NOTHING)
    scenes: int = flag("Number of test scenes.", 300)
    scene_seed: int = flag("Seed of the mini world: that of llava.mini.make_data.", 0)
    batch_size: int = flag("Scenes at once.", 32)
    output: Optional[str] = flag("Where the numbers go, as JSON.")

    def check(self) -> None:
        """Refuses settings that cannot be measured.

        Raises:
            UserError: names the flag, and the reason.
        """
        if self.model_path is None:
            raise UserError("say which model: --model-path FOLDER")
        if self.compensation_name != GRAPHS:
            raise UserError(f"only --compensation {GRAPHS} finds triplets: leave the flag out")
        for name in ("scenes", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: say 1 or more")
        if self.output is not None:
            check_target(Path(self.output))

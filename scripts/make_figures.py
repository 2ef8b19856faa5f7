"""Draws the figures of the project.

    .venv/bin/python scripts/make_figures.py

``images/pipeline.png`` and ``trace.png`` show what the mini model makes of ``scene.png``;
``accuracy.png`` what it scores, from the table that ``bash scripts/quickstart.sh`` writes.
``stage_times.png`` is of ``llava.eval.bench``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from figures.accuracy import draw_accuracy, read_points
from figures.answers import draw_example_scene
from figures.example import draw_example
from figures.page import DPI
from figures.pipeline import draw_pipeline
from figures.trace import draw_trace_at_budgets
from transformers import HfArgumentParser

from llava.errors import UserError
from llava.eval.command import guard
from llava.eval.figure import save_picture
from llava.model.builder import ModelArguments, flag, list_flag, load_from_arguments
from llava.model.llava_arch import LlavaAccm

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class FigureArguments:
    """Flags of the command."""

    only: list[str] = list_flag(
        "Which: example, scene, pipeline, trace, accuracy. Default: all.", ()
    )
    model_path: str = flag("The mini model.", str(ROOT / "checkpoints" / "accm-mini"))
    report: str = flag(
        "The table of accuracy.png, report.csv of bash scripts/quickstart.sh.",
        str(ROOT / "outputs" / "quickstart" / "report" / "report.csv"),
    )
    output_dir: str = flag("Where the figures go.", str(ROOT / "images"))


class Figures:
    """Draws each figure into a folder.

    Args:
        args: the flags.
    """

    def __init__(self, args: FigureArguments) -> None:
        self._args = args
        self._folder = Path(args.output_dir)

    @cached_property
    def _model(self) -> LlavaAccm:
        return load_from_arguments(ModelArguments(self._args.model_path, device="cpu"))

    def example(self) -> None:
        save_picture(draw_example(), self._folder / "example.png")

    def scene(self) -> None:
        save_picture(draw_example_scene(), self._folder / "scene.png")

    def pipeline(self) -> None:
        draw_pipeline(self._model, draw_example_scene()).save(self._folder / "pipeline.png")

    def trace(self) -> None:
        draw_trace_at_budgets(self._model, draw_example_scene()).save(self._folder / "trace.png")

    def accuracy(self) -> None:
        figure = draw_accuracy(read_points(Path(self._args.report)))
        figure.savefig(self._folder / "accuracy.png", dpi=DPI)


NAMES = ("example", "scene", "pipeline", "trace", "accuracy")


def make_figures(args: FigureArguments) -> int:
    """Draws what is asked for.

    Raises:
        UserError: there is no such figure, or no table for it.
    """
    unknown = set(args.only) - set(NAMES)
    if unknown:
        raise UserError(f"--only {' '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    if not Path(args.output_dir).is_dir():
        raise UserError(f"there is no folder {args.output_dir}: make it, or name another")
    figures = Figures(args)
    for name in args.only or NAMES:
        draw: Callable[[], None] = getattr(figures, name)
        draw()
        print(Path(args.output_dir) / f"{name}.png", flush=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = HfArgumentParser(
        FigureArguments, description=__doc__.splitlines()[0], allow_abbrev=False
    )
    args, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if unknown:
        parser.error(f"unknown flags: {' '.join(unknown)}")
    return guard(lambda: make_figures(args))


if __name__ == "__main__":
    sys.exit(main())

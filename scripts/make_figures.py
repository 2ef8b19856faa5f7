"""Draws the figures of the project.

    .venv/bin/python scripts/make_figures.py

``images/pipeline.png`` and ``trace.png`` show the mini model's work on ``scene.png``;
``accuracy.png`` shows its scores, from the table that ``bash scripts/quickstart.sh`` writes.
``stage_times.png`` comes from ``llava.eval.bench``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from figures.accuracy import draw_accuracy, read_points
from figures.answers import draw_example_scene
from figures.example import draw_example
from figures.pipeline import draw_pipeline
from figures.trace import draw_trace_at_budgets

from llava.arguments import ModelArguments, flag, list_flag
from llava.errors import UserError
from llava.eval.figure import save_picture
from llava.files import write_whole
from llava.model.builder import load_from_arguments
from llava.model.llava_arch import LlavaAccm
from llava.utils.cli import guard
from llava.utils.flags import FlagParser

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


def figures(args: FigureArguments) -> dict[str, Callable[[Path], None]]:
    """Returns the functions that draw each figure into a file."""
    scene = draw_example_scene()

    @cache
    def model() -> LlavaAccm:
        return load_from_arguments(ModelArguments(args.model_path, device="cpu"))

    return {
        "example": lambda path: save_picture(draw_example(), path),
        "scene": lambda path: save_picture(scene, path),
        "pipeline": lambda path: draw_pipeline(model(), scene).save(path),
        "trace": lambda path: draw_trace_at_budgets(model(), scene).save(path),
        "accuracy": lambda path: write_whole(
            path,
            lambda file: draw_accuracy(read_points(Path(args.report))).savefig(file, format="png"),
        ),
    }


def make_figures(args: FigureArguments) -> int:
    """Draws the figures that are asked for.

    Raises:
        UserError: there is no such figure, or no table for it.
    """
    known = figures(args)
    unknown = set(args.only) - set(known)
    if unknown:
        raise UserError(f"--only {' '.join(sorted(unknown))}: there are {', '.join(known)}")
    folder = Path(args.output_dir)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: make it, or name another")
    for name in args.only or known:
        known[name](folder / f"{name}.png")
        print(folder / f"{name}.png", flush=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    program = "python scripts/make_figures.py"
    args = FlagParser(FigureArguments, program, __doc__.splitlines()[0]).read(argv)
    return guard(lambda: make_figures(args))


if __name__ == "__main__":
    sys.exit(main())

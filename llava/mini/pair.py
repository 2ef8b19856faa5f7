"""Draws a question that two runs were asked: their kept patches and answers, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from llava.eval.benchmarks.question import Question
from llava.eval.figure import CHOSEN, MARGIN, dim_patches
from llava.eval.panel import INK, PAPER, Panel
from llava.eval.report.disagreements import Side
from llava.mm_utils import CLIP_BACKGROUND, expand2square, load_image

SIDE = 420  # pixels of a picture
_HEAD = 2 * SIDE + MARGIN
RIGHT, WRONG = CHOSEN, (190, 30, 30)


def verdict(side: Side, truth: str) -> str:
    """Returns whether an answer is right, and the right one if it is wrong."""
    return "right" if side.score == 1 else f"wrong, truth: {truth}"


def pair_picture(question: Question, truth: str, sides: Sequence[Side]) -> Image.Image:
    """Draws a question with the right answer, and below it two runs' answers beside each other.

    Raises:
        UserError: the image cannot be read.
    """
    head = Panel(_HEAD, 100)
    head.heading(question.tower_question)
    head.text(f"Truth: {truth}")
    square = expand2square(load_image(question.image), CLIP_BACKGROUND, SIDE)
    columns = [_column(side, square, truth) for side in sides]
    top = head.height + 2 * MARGIN
    height = top + SIDE + MARGIN + max(column.height for _, column in columns) + MARGIN
    sheet = Image.new("RGB", (_HEAD + 2 * MARGIN, height), PAPER)
    sheet.paste(head.image(), (MARGIN, MARGIN))
    for place, (picture, column) in enumerate(columns):
        left = MARGIN + place * (SIDE + MARGIN)
        sheet.paste(picture, (left, top))
        sheet.paste(column.image(), (left, top + SIDE + MARGIN))
    return sheet


def _column(side: Side, square: Image.Image, truth: str) -> tuple[Image.Image, Panel]:
    """Returns the image with its kept patches, and the text below."""
    run, num_patches = side.run, side.run.num_patches or 0
    entry: Any = side.entry  # there is one of each side that is shown
    kept = range(num_patches) if entry.kept is None else entry.kept
    picture = dim_patches(square, kept, side.grids, SIDE)
    panel = Panel(SIDE, 100)
    colour = RIGHT if side.score == 1 else WRONG
    panel.heading(f"{entry.text or '(nothing)'}: {verdict(side, truth)}", colour)
    if entry.captions and entry.chosen is not None:
        panel.text(f"{run.tokens} of {run.num_patches} tokens, and the caption")
        panel.text(entry.captions[entry.chosen].strip(), INK)
    else:
        panel.text(f"{run.tokens} of {run.num_patches} tokens, no caption")
    if entry.grids:
        panel.text("The patches of the tiles are smaller than those of the base view.")
    return picture, panel

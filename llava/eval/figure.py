"""A picture of one question: the kept patches and why, the captions, the answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from llava.errors import UserError, shown
from llava.eval.grids import Grid, whole_grids
from llava.eval.panel import INK, PAPER, Panel
from llava.files import write_whole
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Answer
from llava.model.token_pruning.accm import kept_reasons as kept_reasons  # the old place
from llava.model.token_pruning.pruner import CLS

IMAGE_SIDE = 672  # pixels of the picture on the left
PANEL_WIDTH = 720
MARGIN = 24
DIMMED = 0.22  # brightness of a dropped patch

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")  # of a file

FAINT = (120, 126, 135)
CHOSEN = (18, 118, 72)
# Why a patch was kept -> the colour of its frame; colour-blind readers can tell them apart.
REASON_COLOURS = {
    "question": (0, 114, 240),
    "attention": (240, 150, 0),
    "question and attention": (200, 60, 200),
    "uniform": (0, 170, 120),
    "random": (150, 155, 165),
    "pooled": (0, 170, 200),
    "diverse": (0, 170, 120),
    "coverage": (0, 170, 200),
    "object": (230, 70, 60),
    "distinct": (0, 114, 240),
    "merged": (200, 60, 200),
    "CLS token": (150, 155, 165),
    "whole view": (150, 155, 165),
}


def draw_trace(
    model: LlavaAccm, image: Image.Image, question: str, answer: Answer, path: Path
) -> None:
    """Writes a picture of an answer to a question about an RGB image; see save_picture.

    Raises:
        UserError: the file cannot be written, or its ending is not a picture's.
    """
    save_picture(trace_picture(model, image, question, answer), path)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a picture, whole or not at all, in the format of the file's ending.

    Raises:
        UserError: the file cannot be written, or its ending is not a picture's.
    """
    kind = picture_format(path)
    # Lines and letters keep their colours.
    settings: dict[str, dict] = {
        "JPEG": {"quality": 92, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    write_whole(path, lambda file: picture.save(file, format=kind, **settings.get(kind, {})))


def data_uri(picture: Image.Image, quality: int, **settings: int) -> str:
    """Returns a picture as a data: URI, a JPEG of this quality and with these settings."""
    data = io.BytesIO()
    picture.save(data, format="JPEG", quality=quality, **settings)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def picture_format(path: Path) -> str:
    """Returns Pillow's name of the format that a file's ending stands for.

    Raises:
        UserError: the ending stands for none.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise UserError(
            f"{shown(path.name)} does not end as a picture does: give it one of the endings "
            f"{', '.join(_ENDINGS)}"
        )
    return Image.registered_extensions()[path.suffix.lower()]


def trace_picture(
    model: LlavaAccm, image: Image.Image, question: str, answer: Answer
) -> Image.Image:
    """Returns the picture of an answer to a question about an RGB image."""
    reasons = answer.reasons
    picture = draw_patches(model, image, answer.kept_idx, reasons)
    panel = Panel(PANEL_WIDTH, IMAGE_SIDE)
    panel.paragraph("Question", question)
    panel.paragraph("Answer", answer.text or "(nothing)")
    _draw_budget(panel, answer, model.count_tokens(image), reasons)
    if note := view_note(model, image, answer.kept_idx):
        panel.text(note, colour=FAINT)
        panel.gap()
    _draw_candidates(panel, answer)
    height = max(IMAGE_SIDE, panel.height) + 2 * MARGIN
    sheet = Image.new("RGB", (IMAGE_SIDE + PANEL_WIDTH + 3 * MARGIN, height), PAPER)
    sheet.paste(picture, (MARGIN, MARGIN))
    sheet.paste(panel.image(), (IMAGE_SIDE + 2 * MARGIN, MARGIN))
    return sheet


def draw_patches(
    model: LlavaAccm, image: Image.Image, kept: list[int], reasons: dict[int, str]
) -> Image.Image:
    """Returns the image that the tower saw, dropped patches dimmed, kept ones framed by reason.

    Of an image of several views, it shows the patches of all where they lie in the whole image.
    """
    views = model.backbone.views(image)
    grids = whole_grids([(v.start, v.rows, v.columns, v.row_stride) for v in views])
    picture = _dim(model.backbone.picture(image, IMAGE_SIDE), kept, grids)
    draw = ImageDraw.Draw(picture)
    for patch, reason in reasons.items():
        if patch == CLS:
            continue
        for left, top, right, bottom in _boxes(patch, grids, picture.size):
            corners = (left, top, right - 1, bottom - 1)
            draw.rectangle(corners, outline=REASON_COLOURS[reason], width=3)
    return picture


def view_note(model: LlavaAccm, image: Image.Image, kept: Collection[int]) -> str:
    """Returns how many tokens of base view and tiles are kept; empty where there is one view."""
    base, *tiles = (set(view.idx.tolist()) for view in model.backbone.views(image))
    if not tiles:
        return ""
    of_tiles = set().union(*tiles)
    return (
        f"{len(base & set(kept))} of the {len(base)} tokens of the base view are kept, and of the "
        f"tiles, whose patches are smaller, {len(of_tiles & set(kept))} of {len(of_tiles)}"
    )


def dim_patches(
    square: Image.Image, kept: Collection[int], grids: Sequence[Grid], side: int
) -> Image.Image:
    """Returns a picture with its dropped patches dimmed.

    Args:
        square: the image that the tower saw, RGB, of any size.
        kept: the patches that stay bright.
        grids: the grids that have them.
        side: side of the result in pixels.
    """
    return _dim(square.resize((side, side)), kept, grids)


def _dim(picture: Image.Image, kept: Collection[int], grids: Sequence[Grid]) -> Image.Image:
    """Returns a picture with its dropped patches dimmed: all that no kept one shows."""
    bright = np.full((picture.height, picture.width, 1), DIMMED, dtype=np.float32)
    for patch in kept:
        for left, top, right, bottom in _boxes(patch, grids, picture.size):
            bright[top:bottom, left:right] = 1
    pixels = np.asarray(picture).astype(np.float32)
    return Image.fromarray((pixels * bright + 16 * (1 - bright)).astype(np.uint8))


def _boxes(
    patch: int, grids: Sequence[Grid], size: tuple[int, int]
) -> Iterator[tuple[int, int, int, int]]:
    """Yields left, top, right and bottom of a patch in a picture of some width and height."""
    for grid in grids:
        if place := grid.place(patch):
            left, top, right, bottom = (round(part * size[i % 2]) for i, part in enumerate(place))
            yield left, top, right, bottom


def _draw_budget(panel: Panel, answer: Answer, num_patches: int, reasons: dict[int, str]) -> None:
    """Draws the number of kept tokens, and a legend of the frames."""
    panel.heading(f"{len(answer.kept_idx)} of {num_patches} visual tokens kept")
    counts = {reason: list(reasons.values()).count(reason) for reason in REASON_COLOURS}
    for reason, count in counts.items():
        if count:
            panel.swatch(REASON_COLOURS[reason], f"{reason}: {count}")
    if answer.pruned is None:
        panel.text("nothing was pruned", colour=FAINT)
    panel.gap()


def _draw_candidates(panel: Panel, answer: Answer) -> None:
    """Draws the candidate texts with their scores, the chosen ones marked."""
    supplement = answer.supplement
    if supplement is None or not supplement.candidates:
        return
    panel.heading(supplement.title)
    for caption, score, chosen in supplement.shown:
        colour = CHOSEN if chosen else FAINT
        if score is not None:
            panel.bar(score, colour, f"{score:.3f}" + ("  chosen" if chosen else ""))
        panel.text(caption, colour=colour if chosen else INK)
        panel.gap(6)

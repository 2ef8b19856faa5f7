"""images/pipeline.png: the method's five stages, with the mini model's results for a scene."""

from __future__ import annotations

import textwrap

from figures.answers import QUESTION, ask
from figures.candidates import draw_candidates
from figures.page import BLUE, CHOSEN, FAINT, GREEN, INK, PAPER, REASONS, Page
from PIL import Image
from transformers import GPT2Config

from llava.eval.figure import draw_patches, kept_reasons
from llava.mm_utils import square_view
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Answer
from llava.model.shapes import LLAVA_7B, MINI, ModelShape

TOKENS = 9
SIDE = 132  # of a picture
TOP, BOTTOM = 50, 290  # of the two rows
IMAGE, ENCODE, PRUNE, CARD, RIGHT = 14, 188, 342, 546, 786  # left edges of the columns
CARD_WIDTH = 206
_NAMES = (
    "$N$  patches",
    "$C$  CLIP's width",
    "$P$  image and text",
    "GPT-2's width",
    "LLM's width",
)


def draw_pipeline(model: LlavaAccm, scene: Image.Image) -> Page:
    """Draws the stages from left to right, and below them the path of the dropped tokens."""
    answer = ask(model, scene, TOKENS).answer
    page = Page(950, 506)
    _draw_inputs(page, scene)
    _draw_selection(page, model, scene, answer)
    _draw_caption_writing(page, answer)
    _draw_prompt(page, model, scene, answer)
    _draw_answer(page, answer)
    _draw_shapes(page)
    return page


def _title(page: Page, x: float, y: float, number: str, name: str, at: str = "mm") -> None:
    page.text(x, y, f"{number}  {name}", 9.5, weight="bold", at=at)


def _draw_inputs(page: Page, scene: Image.Image) -> None:
    """Draws the image, the question, and the two towers that read them."""
    middle = TOP + SIDE / 2
    page.picture(IMAGE, TOP, scene.resize((480, 480), Image.LANCZOS), SIDE)
    page.text(IMAGE + SIDE / 2, TOP + SIDE + 14, "image", colour=FAINT)
    page.text(IMAGE + SIDE / 2, BOTTOM + 66, f"“{QUESTION}”", 8.5)
    page.text(IMAGE + SIDE / 2, BOTTOM + 84, "question", colour=FAINT)
    _title(page, ENCODE + 50, TOP - 20, "1", "encode")
    for top, tower in ((TOP, "vision"), (TOP + 72, "text")):
        page.box(ENCODE, top, 100, 60, BLUE)
        page.text(ENCODE + 50, top + 22, "CLIP", 9)
        page.text(ENCODE + 50, top + 41, f"{tower} tower", colour=FAINT)
    page.arrow((IMAGE + SIDE + 4, TOP + 30), (ENCODE - 3, TOP + 30))
    page.arrow((ENCODE + 50, BOTTOM + 66), (ENCODE + 50, TOP + SIDE + 4))
    page.arrow((ENCODE + 103, TOP + 30), (PRUNE - 4, TOP + 30))
    page.arrow((ENCODE + 103, middle + 36), (PRUNE - 4, middle + 36))


def _draw_selection(page: Page, model: LlavaAccm, scene: Image.Image, answer: Answer) -> None:
    """Draws the kept patches with the reasons."""
    reasons = kept_reasons(answer.selection)
    middle = PRUNE + SIDE / 2
    _title(page, middle, TOP - 20, "2", "prune")
    page.picture(PRUNE, TOP, draw_patches(model, scene, answer.kept_idx, reasons), SIDE)
    page.text(middle, TOP + SIDE + 14, "$K$ of $N$ visual tokens stay:", 7.5, FAINT)
    for place, reason in enumerate(("question", "attention", "uniform", "random")):
        x, y = PRUNE + 5 + 66 * (place % 2), TOP + SIDE + 31 + 17 * (place // 2)
        page.frame(x, y - 2, 8, REASONS[reason], 1.4)
        page.text(x + 14, y, reason, 7.5, INK, "lm")
    page.arrow((middle, TOP + SIDE + 60), (middle, BOTTOM + 26))
    page.text(middle + 8, BOTTOM + 8, "the $N - K$ dropped", 7.5, FAINT, "lm")


def _draw_caption_writing(page: Page, answer: Answer) -> None:
    """Draws the caption model, the candidates and their scores."""
    found = answer.compensation
    middle = BOTTOM + 66
    page.box(PRUNE, BOTTOM + 30, SIDE, 72, GREEN)
    page.text(PRUNE + SIDE / 2, BOTTOM + 54, "mapper + GPT-2", 9)
    page.text(PRUNE + SIDE / 2, BOTTOM + 77, f"{len(found.candidates.ids)} beams", colour=FAINT)
    page.arrow((IMAGE + SIDE + 18, middle), (PRUNE - 4, middle))
    page.arrow((PRUNE + SIDE + 3, middle), (CARD - 4, middle))
    _title(page, PRUNE + SIDE / 2 - 10, BOTTOM + 8, "3", "compensate", at="rm")
    page.box(CARD, BOTTOM - 10, CARD_WIDTH, 200, PAPER)
    draw_candidates(page, CARD + 12, BOTTOM + 8, found, 110, characters=36, size=7.5, step=51)
    page.text(CARD + CARD_WIDTH / 2, BOTTOM + 204, "scores of LongCLIP + selector", 7.5, FAINT)
    middle = CARD + CARD_WIDTH / 2
    page.arrow((middle, BOTTOM - 13), (middle, TOP + 158), colour=CHOSEN)
    page.text(middle + 8, (TOP + BOTTOM) / 2 + 72, "the highest score", 7.5, CHOSEN, "lm")


def _draw_prompt(page: Page, model: LlavaAccm, scene: Image.Image, answer: Answer) -> None:
    """Draws the LLM's input: the kept patches in its order, the caption, the question."""
    _title(page, CARD + CARD_WIDTH / 2, TOP - 20, "4", "splice")
    page.box(CARD, TOP, CARD_WIDTH, 154, PAPER)
    page.text(CARD + 12, TOP + 16, "USER:", 7.5, FAINT, "lm")
    reasons = kept_reasons(answer.selection)
    for place, patch in enumerate(answer.kept_idx):
        x, y = CARD + 12 + 20.6 * place, TOP + 28
        page.picture(x, y, _patch(model, scene, patch), 17)
        page.frame(x, y, 17, REASONS[reasons[patch]])
    told = f"additional information: {answer.compensation.chosen_caption.strip()}"
    page.text(CARD + 12, TOP + 57, "\n".join(textwrap.wrap(told, 36)), 7.5, CHOSEN, "lt")
    page.text(CARD + 12, TOP + 116, QUESTION, 7.5, INK, "lm")
    page.text(CARD + 12, TOP + 136, "ASSISTANT:", 7.5, FAINT, "lm")
    middle = TOP + SIDE / 2
    page.arrow((PRUNE + SIDE + 4, middle), (CARD - 4, middle))
    page.text((PRUNE + SIDE + CARD) / 2, middle - 12, "$K \\times C$", 7.5, FAINT)
    page.text((PRUNE + SIDE + CARD) / 2, middle + 13, "projector", 7.5, FAINT)


def _patch(model: LlavaAccm, scene: Image.Image, patch: int) -> Image.Image:
    """Returns one patch as the tower reads it."""
    ratio = model.config.image_aspect_ratio
    view = square_view(scene, model.image_processor, ratio, max(scene.size))
    across = round(model.count_tokens() ** 0.5)
    side = view.width / across
    row, column = divmod(patch, across)
    box = (column * side, row * side, (column + 1) * side, (row + 1) * side)
    return view.resize((68, 68), Image.LANCZOS, box=box)


def _draw_answer(page: Page, answer: Answer) -> None:
    middle = TOP + SIDE / 2
    _title(page, RIGHT + 40, TOP - 20, "5", "generate")
    page.box(RIGHT, middle - 34, 80, 68, BLUE)
    page.text(RIGHT + 40, middle - 9, "LLM", 9)
    page.text(RIGHT + 40, middle + 11, "Llama", colour=FAINT)
    page.arrow((CARD + CARD_WIDTH + 3, middle), (RIGHT - 3, middle))
    page.arrow((RIGHT + 83, middle), (RIGHT + 106, middle))
    page.text(RIGHT + 112, middle, answer.text, 9.5, weight="bold", at="lm")


def _draw_shapes(page: Page) -> None:
    """Writes the values of the symbols, here and in LLaVA-1.5-7B."""
    columns = (RIGHT - 18, RIGHT + 104, RIGHT + 146)
    y = BOTTOM - 2
    for x, text in zip(columns[1:], ("here", "7B")):
        page.text(x, y, text, 7.5, at="rm", weight="bold")
    for name, here, real in zip(_NAMES, _sizes(MINI), _sizes(LLAVA_7B)):
        y += 18
        page.text(columns[0], y, name, 7.5, FAINT, "lm")
        for x, size in zip(columns[1:], (here, real)):
            page.text(x, y, str(size), 7.5, at="rm")
    y += 18
    page.text(columns[0], y, "$K$  kept", 7.5, FAINT, "lm")
    page.text(columns[1], y, str(TOKENS), 7.5, at="rm")
    page.text(columns[2], y, "any", 7.5, at="rm")


def _sizes(shape: ModelShape) -> tuple[int, ...]:
    vision = shape.vision
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    gpt2 = GPT2Config(**shape.gpt2).n_embd
    return patches, vision["hidden_size"], shape.projection, gpt2, shape.llm["hidden_size"]

"""images/trace.png: one question of a mini scene at falling budgets."""

from __future__ import annotations

from collections import Counter

from figures.answers import QUESTION, Asked, ask
from figures.candidates import draw_candidates
from figures.page import FAINT, INK, REASONS, Page
from PIL import Image

from llava.eval.figure import draw_patches, kept_reasons
from llava.model.llava_arch import LlavaAccm

BUDGETS = (36, 18, 9)
SIDE = 290
GAP = 25
TOP = 64


def draw_trace_at_budgets(model: LlavaAccm, scene: Image.Image) -> Page:
    """Draws a column per budget: kept patches with reasons, candidates with scores, answers."""
    page = Page(len(BUDGETS) * (SIDE + GAP) + GAP - 25, 694)
    page.text(GAP / 2, 22, f"“{QUESTION}”", 11, at="lm", weight="bold")
    for place, tokens in enumerate(BUDGETS):
        _draw_column(page, model, scene, GAP / 2 + place * (SIDE + GAP), tokens)
    return page


def _draw_column(page: Page, model: LlavaAccm, scene: Image.Image, x: float, tokens: int) -> None:
    asked = ask(model, scene, tokens)
    reasons = kept_reasons(asked.answer.selection)
    page.text(x, TOP - 14, f"{tokens} of {model.count_tokens()} visual tokens", 9, INK, "lm")
    page.picture(x, TOP, draw_patches(model, scene, asked.answer.kept_idx, reasons), SIDE)
    counts = Counter(reasons.values())
    y = TOP + SIDE + 18
    for reason in REASONS:
        if counts[reason]:
            page.frame(x + 1, y - 3, 10, REASONS[reason], 1.6)
            page.text(x + 20, y, f"{reason}: {counts[reason]}", 8, INK, "lm")
            y += 17
    y = TOP + SIDE + 80
    page.text(x, y, "candidate captions, and their scores", 8, FAINT, "lm")
    draw_candidates(page, x, y + 24, asked.answer.compensation, 180, characters=48)
    _draw_answers(page, x, TOP + SIDE + 302, asked)


def _draw_answers(page: Page, x: float, y: float, asked: Asked) -> None:
    page.text(x, y, "answer", 8, FAINT, "lm")
    page.text(x + 132, y, asked.answer.text, 10, INK, "lm", weight="bold")
    page.text(x, y + 22, "without the caption", 8, FAINT, "lm")
    page.text(x + 132, y + 22, asked.without_caption, 10, FAINT, "lm")

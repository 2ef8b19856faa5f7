"""Candidate captions with their scores, as figures show them."""

from __future__ import annotations

import textwrap

from figures.page import CHOSEN, FAINT, GREY, INK, LINE, Page

from llava.model.compensation.compensator import Compensation


def draw_candidates(
    page: Page,
    x: float,
    y: float,
    found: Compensation,
    bar: float,
    characters: int,
    size: float = 8,
    step: float = 52,
) -> None:
    """Draws a bar for each candidate with its text below; the chosen one is coloured.

    Args:
        page: the page to draw on.
        x, y: the left end of the first bar.
        found: the candidates.
        bar: length of a bar at a score of 1.
        characters: the length of a line.
        size: the size of the type.
        step: the distance from one candidate to the next.
    """
    for place, (caption, score) in enumerate(zip(found.captions, found.scores)):
        chosen = place == found.chosen_index
        page.bar(x, y - 2, bar, 7, GREY)
        page.bar(x, y - 2, bar * score, 7, CHOSEN if chosen else LINE)
        told = f"{score:.2f}" + ("  chosen" if chosen else "")
        page.text(x + bar + 8, y, told, size, CHOSEN if chosen else FAINT, "lm")
        lines = textwrap.wrap(caption.strip() or "no caption", characters)
        page.text(x, y + 8, "\n".join(lines), size, CHOSEN if chosen else INK, "lt")
        y += step

"""The changes of the page: notes beside its fields, answers that appear and disappear."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr

from llava.model.llava_arch import LlavaAccm
from llava.serve.web import panels
from llava.serve.web.layout import Parts
from llava.serve.web.reading import Entered


class Changes:
    """New values of the page's components, by component.

    Args:
        parts: the components.
        model: the model that answers.
    """

    def __init__(self, parts: Parts, model: LlavaAccm) -> None:
        self._parts = parts
        self._model = model
        self._patches = model.count_tokens()

    def notes(self, entered: Entered) -> dict:
        """Returns the notes on each field."""
        parts = self._parts
        return {
            parts.image_note: self.image_note(entered),
            parts.question_note: _note(entered, "question"),
            parts.budget_note: _note(entered, "budget"),
            parts.button_note: "",
        }

    def text_notes(self, entered: Entered, question: object) -> dict:
        """Returns the notes on budget and question, which may still be empty."""
        return {
            self._parts.budget_note: _note(entered, "budget"),
            self._parts.question_note: _note(entered, "question") if question else "",
        }

    def image_note(self, entered: Entered) -> str:
        """Returns the note on the image, which the page now shows."""
        return (panels.SEEN if entered.is_shown else "") + _note(entered, "image")

    def no_answers(self) -> dict:
        """Removes everything that belongs to another question."""
        parts = self._parts
        return self.no_pruned_answer() | {
            parts.record: None,
            parts.warning: gr.HTML("", visible=False),
            parts.full: panels.answer_card(self.name(self._patches), ""),
            parts.shown: None,
            parts.button_note: "",
        }

    def no_pruned_answer(self) -> dict:
        """Removes everything that belongs to another number of tokens."""
        parts = self._parts
        return {
            parts.pruned: panels.answer_card(self.name(None), ""),
            parts.overlay: panels.EMPTY_OVERLAY,
            parts.candidates: panels.empty_candidates(self._model.writes),
            parts.stages: "",
        }

    def times(
        self, budget: int, pruned: Mapping[str, float] | None, full: Mapping[str, float]
    ) -> dict:
        """Shows the times of the stages, here and at the real shapes.

        Args:
            budget: K.
            pruned: seconds of each stage; None if K is all tokens.
            full: the same for all tokens.
        """
        rows, why = [(self.name(self._patches), full)], ""
        if pruned is not None:
            rows.insert(0, (self.name(budget), pruned))
            why = panels.why_slower(pruned, full, self._model.writes)
        elsewhere = panels.costs_elsewhere(self._model, budget)
        return {self._parts.stages: panels.stage_bars(rows) + why + elsewhere}

    def name(self, budget: int | None) -> str:
        """Returns the name of an answer."""
        return panels.name_of(budget, self._patches, self._model.writes)


def _note(entered: Entered, field: str) -> str:
    if field in entered.problems:
        return panels.problem(entered.problems[field])
    return panels.advice(entered.advice.get(field))

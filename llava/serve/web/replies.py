"""The changes of the page: notes beside its fields, and answers with patches and captions."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from llava.mini.likeness import warning_of
from llava.model.sample import Sample
from llava.serve.web import panels
from llava.serve.web.answering import Answerer, Timed
from llava.serve.web.arguments import Limits
from llava.serve.web.inputs import Entered, open_upload, read_file
from llava.serve.web.layout import Parts, budget_label


@dataclass(frozen=True)
class Shown:
    """The last question of a visitor, so that the slider can repeat it.

    Attributes:
        image_file: the picture in the folder of uploads.
        patches: N of it.
        question: text of the question.
        full_stages: seconds of the stages of the full answer.
    """

    image_file: Path
    patches: int
    question: str
    full_stages: Mapping[str, float]


class Replies:
    """New values of the page's components, by component.

    Args:
        answerer: answers the questions.
        parts: the components.
        limits: limits of what a visitor may send.
    """

    def __init__(self, answerer: Answerer, parts: Parts, limits: Limits) -> None:
        self._answerer = answerer
        self._model = answerer.model
        self._parts = parts
        self._limits = limits

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
            parts.full: panels.answer_card("All tokens", ""),
            parts.shown: None,
            parts.button_note: "",
        }

    def no_pruned_answer(self) -> dict:
        """Removes everything that belongs to another number of tokens."""
        parts = self._parts
        return {
            parts.pruned: panels.answer_card(panels.name_of(None, 0, self._model.writes), ""),
            parts.overlay: panels.EMPTY_OVERLAY,
            parts.candidates: panels.empty_candidates(self._model.writes),
            parts.stages: "",
        }

    def range_of(self, patches: int | None, kept: object) -> dict:
        """Sets the slider to an image of N tokens, where images differ in them.

        Args:
            patches: N; None where there is no image.
            kept: the slider's value, unchecked.
        """
        if patches is None or not self._model.backbone.images_differ:
            return {}
        is_above = isinstance(kept, (int, float)) and kept > patches
        value = {"value": patches} if is_above else {}
        label = budget_label(patches)
        return {self._parts.budget: gr.Slider(maximum=patches, label=label, **value)}

    def times(
        self,
        image: Image.Image,
        budget: int,
        pruned: Mapping[str, float] | None,
        full: Mapping[str, float],
    ) -> dict:
        """Shows the times of the stages, here and at the real shapes.

        Args:
            image: the image.
            budget: K.
            pruned: seconds of each stage; None if K is all tokens.
            full: the same for all tokens.
        """
        patches = self._model.count_tokens(image)
        rows, why = [(self.name(patches, patches), full)], ""
        if pruned is not None:
            rows.insert(0, (self.name(budget, patches), pruned))
            why = panels.why_slower(pruned, full, self._model.writes)
        elsewhere = panels.costs_elsewhere(self._model, budget, image)
        return {self._parts.stages: panels.stage_bars(rows) + why + elsewhere}

    def name(self, budget: int, patches: int) -> str:
        """Returns the name of an answer from K of N tokens."""
        return panels.name_of(budget, patches, self._model.writes)

    def ask(self, entered: Entered) -> Iterator[dict]:
        """Answers the entered question from some tokens and from all."""
        parts, image, patches = self._parts, entered.image, entered.patches
        question, budget = entered.question, entered.budget
        if entered.image_file is None or image is None or patches is None:
            return  # the page asks only where no field has a problem
        if question is None or budget is None:
            return
        some = self._answerer.sample(image, question, budget, entered.pruner)
        whole = self._answerer.sample(image, question, patches)
        unlike = warning_of(self._model.about, image)
        yield {
            parts.warning: gr.HTML(panels.fill("warning", unlike), visible=unlike is not None),
            parts.full: panels.answer_card(self.name(patches, patches), "", is_waiting=True),
        }
        pruned = yield from self._pruned_answer(some)
        full = yield from self._answer(parts.full, whole)
        stages = full.answer.seconds
        of_pruned = None if pruned is None else pruned.answer.seconds
        yield self.times(image, budget, of_pruned, stages)
        pruned = pruned or full
        yield {
            parts.record: {"warning": unlike, "pruned": pruned.record(), "full": full.record()},
            parts.shown: Shown(entered.image_file, patches, question, stages),
        }

    def move(self, shown: Shown, budget: int, pruner: str | None) -> Iterator[dict]:
        """Answers again about a picture that still exists, from other tokens."""
        image = open_upload(read_file(shown.image_file, self._limits), self._limits)
        sample = self._answerer.sample(image, shown.question, budget, pruner)
        pruned = yield from self._pruned_answer(sample)
        stages = None if pruned is None else pruned.answer.seconds
        yield self.times(image, budget, stages, shown.full_stages)

    def _pruned_answer(self, sample: Sample) -> Generator[dict, None, Timed | None]:
        """Shows a pruned answer with its patches and captions; with all tokens there is none."""
        parts, model = self._parts, self._model
        picture: Any = sample.image  # no encoding: visitors send files
        if not model.is_pruned(sample):
            yield {
                parts.pruned: "",
                parts.overlay: panels.overlay(model, picture, None),
                parts.candidates: "",
            }
            return None
        pruned = yield from self._answer(parts.pruned, sample)
        yield {
            parts.overlay: panels.overlay(model, picture, pruned.answer),
            parts.candidates: panels.candidates(pruned.answer),
        }
        return pruned

    def _answer(self, card: gr.HTML, sample: Sample) -> Generator[dict, None, Timed]:
        """Shows an answer as it is decoded."""
        budget, patches = self._model.budget(sample), self._model.count_tokens(sample.image)
        name, text = self.name(budget.visual_token_num, patches), ""
        yield {card: panels.answer_card(name, text, is_waiting=True)}
        with closing(self._answerer.stream(sample)) as pieces:
            for piece in pieces:
                if isinstance(piece, Timed):
                    timed = piece
                    break
                text += piece
                yield {card: panels.answer_card(name, text, is_waiting=True)}
        yield {card: panels.answer_card(name, timed.answer.text, timed)}
        return timed


def _note(entered: Entered, field: str) -> str:
    if field in entered.problems:
        return panels.fill("problem", entered.problems[field])
    return panels.fill("advice", entered.advice.get(field))

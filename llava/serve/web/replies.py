"""Answers as they appear on the page, with their kept patches and captions."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from llava.model.sample import Sample
from llava.serve.likeness import warning_of
from llava.serve.web import panels
from llava.serve.web.answering import Answerer, Timed
from llava.serve.web.changes import Changes
from llava.serve.web.inputs import open_upload, read_file
from llava.serve.web.layout import Parts
from llava.serve.web.limits import Limits
from llava.serve.web.reading import Entered


@dataclass(frozen=True)
class Shown:
    """The last question of a visitor, so that the slider can repeat it.

    Attributes:
        image_file: the picture in the folder of uploads.
        question: text of the question.
        full_stages: seconds of the stages of the full answer.
    """

    image_file: Path
    question: str
    full_stages: Mapping[str, float]


class Replies:
    """The changes of the page while questions are answered, by component.

    Args:
        answerer: answers the questions.
        parts: the components.
        changes: other changes of the page.
        limits: limits of what a visitor may send.
    """

    def __init__(self, answerer: Answerer, parts: Parts, changes: Changes, limits: Limits) -> None:
        self._answerer = answerer
        self._parts = parts
        self._changes = changes
        self._limits = limits
        self._patches = answerer.model.count_tokens()

    def ask(self, entered: Entered) -> Iterator[dict]:
        """Answers the entered question from some tokens and from all."""
        parts, patches, image = self._parts, self._patches, entered.image
        question, budget = entered.question, entered.budget
        if entered.image_file is None or image is None or question is None or budget is None:
            return  # the page asks only where no field has a problem
        some = self._answerer.sample(image, question, budget, entered.pruner)
        whole = self._answerer.sample(image, question, patches)
        unlike = warning_of(self._answerer.model.about, image)
        yield {
            parts.warning: gr.HTML(panels.warning(unlike), visible=unlike is not None),
            parts.full: panels.answer_card(self._changes.name(patches), "", is_waiting=True),
        }
        pruned = yield from self._pruned_answer(some)
        full = yield from self._answer(parts.full, whole)
        stages = full.answer.seconds
        of_pruned = None if pruned is None else pruned.answer.seconds
        yield self._changes.times(budget, of_pruned, stages)
        pruned = pruned or full
        yield {
            parts.record: {"warning": unlike, "pruned": pruned.record(), "full": full.record()},
            parts.shown: Shown(entered.image_file, question, stages),
        }

    def move(self, shown: Shown, budget: int, pruner: str | None) -> Iterator[dict]:
        """Answers again about a picture that still exists, from other tokens."""
        image = open_upload(read_file(shown.image_file, self._limits), self._limits)
        sample = self._answerer.sample(image, shown.question, budget, pruner)
        pruned = yield from self._pruned_answer(sample)
        stages = None if pruned is None else pruned.answer.seconds
        yield self._changes.times(budget, stages, shown.full_stages)

    def _pruned_answer(self, sample: Sample) -> Generator[dict, None, Timed | None]:
        """Shows a pruned answer with its patches and captions; with all tokens there is none."""
        parts, model = self._parts, self._answerer.model
        picture: Any = sample.image  # no encoding: visitors send files
        if sample.visual_token_num == self._patches:
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
        name, text = self._changes.name(sample.visual_token_num), ""
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

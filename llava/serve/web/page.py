"""The page: what its buttons do."""

from __future__ import annotations

import html
import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from llava.errors import UserError
from llava.model.sample import Sample
from llava.serve.likeness import warning_of
from llava.serve.web import panels
from llava.serve.web.answering import Answerer, Timed
from llava.serve.web.calls import Calls
from llava.serve.web.inputs import Asked, open_image, read_asked, read_budget
from llava.serve.web.layout import Parts, lay_out
from llava.serve.web.limits import Limits

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """What a visitor was shown last, so that the slider can change it.

    Attributes:
        asked: the question.
        full_stages: seconds of the stages of the full answer.
    """

    asked: Asked
    full_stages: Mapping[str, float]


class Page:
    """A page about one model.

    Args:
        answerer: answers.
        limits: of what a visitor may send.
        uploads: the folder of uploaded files.
        examples: image files and questions to pick from.
        visual_token_num: K to begin with.

    Attributes:
        blocks: The page, as Gradio has it.
        calls: That it takes.
    """

    def __init__(
        self,
        answerer: Answerer,
        limits: Limits,
        uploads: Path,
        examples: list[tuple[str, str]],
        visual_token_num: int,
    ) -> None:
        self._answerer = answerer
        self._limits = limits
        self._uploads = uploads
        self._examples = examples
        self._patches = answerer.model.tower.num_patches
        with gr.Blocks(title="ACCM", analytics_enabled=False) as self.blocks:
            self._parts = lay_out(
                examples,
                visual_token_num,
                self._patches,
                limits.question_length,
                limits.upload_age,
                answerer.model.about.line,
            )
            self._wire(self._parts)
        functions = self.blocks.fns
        ask = next(number for number, each in functions.items() if each.api_name == "ask")
        self.calls = Calls({n: len(each.inputs) for n, each in functions.items()}, ask, uploads)

    def _wire(self, parts: Parts) -> None:
        """What happens when; what is called makes sure itself of what a browser sends."""
        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "model"}
        gr.on(
            [parts.button.click, parts.question.submit],
            self.ask,
            [parts.image, parts.question, parts.budget],
            parts.outputs,
            api_name="ask",
            api_visibility="undocumented",  # Gradio shows documents without asking for a password
            preprocess=False,
            show_progress_on=[parts.pruned],
            **one_at_a_time,
        )
        parts.budget.change(
            self.move,
            [parts.shown, parts.budget],
            parts.outputs,
            api_visibility="private",
            preprocess=False,
            trigger_mode="always_last",
            show_progress="hidden",
            **one_at_a_time,
        )
        parts.gallery.click(
            self.pick,
            parts.gallery,
            [parts.image, parts.question],
            api_visibility="private",
            preprocess=False,
            show_progress="hidden",
        )

    def ask(self, upload: object, question: object, kept: object) -> Iterator[dict]:
        """Answers a question twice, pruned and in full; each argument is as JSON brought it.

        Yields:
            What changes on the page.
        """
        cards = {self._parts.pruned: None, self._parts.full: self._patches}
        yield from self._told(self._ask(upload, question, kept), cards)

    def move(self, shown: Shown | None, kept: object) -> Iterator[dict]:
        """Answers the last question again from another number of tokens, where there is one.

        Yields:
            What changes on the page.
        """
        if shown is not None:
            yield from self._told(self._move(shown, kept), {self._parts.pruned: None})
        else:
            yield {self._parts.shown: gr.skip()}

    def pick(self, place: object) -> tuple[str, str]:
        """Returns the image and the question of an example."""
        if type(place) is not int or not 0 <= place < len(self._examples):
            raise _message("there is no such example")
        return self._examples[place]

    def _ask(self, upload: object, question: object, kept: object) -> Iterator[dict]:
        parts = self._parts
        asked = read_asked(upload, question, self._uploads, self._limits)
        budget = read_budget(kept, self._patches)
        image = open_image(asked.image_file, self._limits)
        samples = [
            self._answerer.sample(image, asked.question, tokens)
            for tokens in (budget, self._patches)
        ]
        unlike = warning_of(self._answerer.model.about, image)
        yield {
            parts.warning: gr.HTML(panels.warning(unlike), visible=unlike is not None),
            parts.full: panels.answer_card(self._name(self._patches), "", is_waiting=True),
        }
        pruned = yield from self._pruned_answer(samples[0])
        full = yield from self._answer(parts.full, samples[1])
        stages = full.answer.seconds
        yield {
            parts.stages: self._bars(budget, pruned, stages),
            parts.record: {"warning": unlike, "pruned": pruned.record(), "full": full.record()},
            parts.shown: Shown(asked, stages),
        }

    def _move(self, shown: Shown, kept: object) -> Iterator[dict]:
        budget = read_budget(kept, self._patches)
        image = open_image(shown.asked.image_file, self._limits)
        sample = self._answerer.sample(image, shown.asked.question, budget)
        pruned = yield from self._pruned_answer(sample)
        yield {self._parts.stages: self._bars(budget, pruned, shown.full_stages)}

    def _pruned_answer(self, sample: Sample) -> Generator[dict, None, Timed]:
        """Shows an answer, and what it saw and was told."""
        pruned = yield from self._answer(self._parts.pruned, sample)
        yield {
            self._parts.overlay: panels.overlay(self._answerer.model, sample.image, pruned.answer),
            self._parts.candidates: panels.candidates(pruned.answer),
        }
        return pruned

    def _answer(self, card: gr.HTML, sample: Sample) -> Generator[dict, None, Timed]:
        """Shows an answer as it comes."""
        name, text = self._name(sample.visual_token_num), ""
        yield {card: panels.answer_card(name, text, is_waiting=True)}
        with closing(self._answerer.stream(sample)) as pieces:
            for piece in pieces:
                if isinstance(piece, Timed):
                    break
                text += piece
                yield {card: panels.answer_card(name, text, is_waiting=True)}
        yield {card: panels.answer_card(name, piece.answer.text, piece)}
        return piece

    def _told(self, changes: Iterator[dict], cards: Mapping[gr.HTML, int | None]) -> Iterator[dict]:
        """Passes changes on; a failure is told to the visitor, and is nobody else's.

        Args:
            changes: of the page.
            cards: those that a failure leaves half written, with the budgets of their names.
        """
        try:
            yield from changes
        except UserError as error:  # before anything was changed
            raise _message(str(error)) from error
        except Exception as error:
            _log.exception("a question could not be answered")
            yield {
                card: panels.answer_card(self._name(budget), "") for card, budget in cards.items()
            }
            raise _message("the server could not answer this; its log says why") from error

    def _bars(self, budget: int, pruned: Timed, full_stages: Mapping[str, float]) -> str:
        return panels.stage_bars(
            [
                (self._name(budget), pruned.answer.seconds),
                (self._name(self._patches), full_stages),
            ]
        )

    def _name(self, budget: int | None) -> str:
        """What an answer is called on the page."""
        if budget == self._patches:
            return f"All {budget} tokens"
        some = "Some" if budget is None else f"{budget} of {self._patches}"
        caption = "" if self._answerer.model.compensator is None else " and a caption"
        return f"{some} tokens{caption}"


def _message(text: str) -> gr.Error:
    """What Gradio shows a visitor; it would take a text for HTML."""
    return gr.Error(html.escape(text, quote=False), print_exception=False)

"""The page: its components and their events."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from llava.errors import UserError
from llava.model.checks import usable_pruners
from llava.serve.web import panels, script
from llava.serve.web.answering import Answerer
from llava.serve.web.arguments import Limits
from llava.serve.web.gate import Calls
from llava.serve.web.inputs import Reader, read_budget, read_pruner
from llava.serve.web.layout import Parts, lay_out
from llava.serve.web.replies import Replies, Shown

_log = logging.getLogger(__name__)
# Events that no program may call, with the values as the browser sends them.
_QUIET = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}


class Page:
    """A page about one model.

    Args:
        answerer: answers the questions.
        limits: limits of what a visitor may send.
        uploads: the folder of uploaded files.
        examples: image files and questions to pick from.
        budgets: the initial K, and N of the first example.

    Attributes:
        blocks: The page as Gradio's Blocks.
        calls: The calls that it accepts.
    """

    def __init__(
        self,
        answerer: Answerer,
        limits: Limits,
        uploads: Path,
        examples: list[tuple[str, str]],
        budgets: tuple[int, int],
    ) -> None:
        model = answerer.model
        self._answerer, self._examples = answerer, examples
        self._most = model.count_tokens()
        self._reader = Reader(answerer, uploads, limits)
        with gr.Blocks(title="ACCM", analytics_enabled=False) as self.blocks:
            self._parts = lay_out(
                examples,
                budgets,
                usable_pruners(model),
                answerer.method.pruner,
                model.writes,
                limits,
                model.about.line,
            )
            self._replies = Replies(answerer, self._parts, limits)
            self._connect_answers(self._parts)
            self._connect_entries(self._parts)
        functions = {n: each for n, each in self.blocks.fns.items() if each.fn is not None}
        self.calls = Calls(
            inputs={number: len(each.inputs) for number, each in functions.items()},
            ask=next(number for number, each in functions.items() if each.api_name == "ask"),
            files=frozenset(
                number
                for number, each in functions.items()
                if each.inputs and each.inputs[0] is self._parts.image
            ),
            folder=uploads,
        )

    # Events and functions; the functions check what a browser sends themselves --------------------

    def _connect_answers(self, parts: Parts) -> None:
        """Connects the events after which the model answers."""
        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "model"}
        asking = gr.on(
            [parts.button.click, parts.question.submit],
            self.ask,
            [parts.image, parts.question, parts.budget, parts.pruner],
            parts.outputs,
            js=script.BEGIN,
            api_name="ask",
            api_visibility="undocumented",  # Gradio shows documentation without a password
            preprocess=False,
            show_progress_on=[parts.full],
            **one_at_a_time,
        )
        asking.success(None, js=script.ANSWERED)
        asking.failure(None, js=script.FAILED)
        self.blocks.load(None, js=script.LOAD)
        gr.on(
            [parts.budget.change, parts.pruner.input],
            self.move,
            [parts.shown, parts.budget, parts.pruner],
            parts.outputs,
            trigger_mode="always_last",
            **_QUIET,
            **one_at_a_time,
        )

    def _connect_entries(self, parts: Parts) -> None:
        """Connects the events of what a visitor enters: it is checked, or an example is taken."""
        gr.on(
            [parts.question.change, parts.budget.change],
            self.check_text,
            [parts.question, parts.budget],
            [parts.question_note, parts.budget_note],
            trigger_mode="always_last",
            concurrency_id="checks",
            **_QUIET,
        )
        parts.image.clear(None, None, parts.image_note, js='() => ""', **_QUIET)
        looking = parts.image.upload(
            self.check_image,
            [parts.image, parts.budget],
            [parts.looked, parts.budget, *parts.outputs],
            trigger_mode="always_last",
            concurrency_id="checks",
            **_QUIET,
        )
        looking.success(
            None,
            [parts.image, parts.looked],
            [parts.image, parts.image_note],
            js=script.LOOKED,
            **_QUIET,
        )
        looking.failure(None, None, parts.image_note, js=f"() => '{panels.SEEN}'", **_QUIET)
        for number, button in enumerate(parts.examples):
            button.click(
                partial(self.pick, number),
                parts.budget,
                [parts.image, parts.question, parts.image_note, parts.budget],
                **_QUIET,
            )

    # What a browser calls -----------------------------------------------------------------------

    def ask(
        self, upload: object, question: object, kept: object, pruner: object = None
    ) -> Iterator[dict]:
        """Answers a question twice, pruned and in full; the arguments are unchecked JSON values.

        Yields:
            Changes of the page.
        """
        entered = self._reader.read(upload, question, kept, pruner)
        yield self._replies.notes(entered)
        if entered.problems:
            yield self._replies.no_answers()
            raise _message(next(iter(entered.problems.values())))
        yield from self._told(self._replies.ask(entered))

    def move(self, shown: Shown | None, kept: object, pruner: object = None) -> Iterator[dict]:
        """Answers the last question, if any, again from other tokens.

        Yields:
            Changes of the page.
        """
        try:
            patches = self._most if shown is None else shown.patches
            budget, chosen = read_budget(kept, patches, self._most), read_pruner(pruner)
        except UserError:  # check_text reports it
            yield self._replies.no_pruned_answer()
            return
        if shown is None:
            yield {self._parts.shown: gr.skip()}
        else:
            yield from self._told(self._replies.move(shown, budget, chosen))

    def check_text(self, question: object, kept: object) -> dict:
        """Returns notes on the question being written and on the number."""
        return self._replies.text_notes(self._reader.read_text(question, kept), question)

    def check_image(self, upload: Any, kept: object = None) -> dict:
        """Returns the note on a new image, see script.LOOKED, and the slider's range for it.

        It removes the answers only together with the image: a quick visitor may already be asking
        about a good one.
        """
        entered = self._reader.read_image(upload)
        looked = {
            "path": upload and upload["path"],
            "is_good": entered.image is not None,
            "note": self._replies.image_note(entered),
        }
        changes = self._replies.range_of(entered.patches, kept)
        changes |= {} if entered.image else self._replies.no_answers()
        return {self._parts.looked: looked} | changes

    def pick(self, place: int, kept: object = None) -> dict:
        """Returns the image and the question of an example, and the slider's range for it."""
        parts = self._parts
        image, question = self._examples[place]
        with Image.open(image) as picture:
            patches = self._answerer.model.count_tokens(picture)
        entries = {parts.image: image, parts.question: question, parts.image_note: panels.SEEN}
        return entries | self._replies.range_of(patches, kept)

    def _told(self, changes: Iterator[dict]) -> Iterator[dict]:
        """Passes changes on, and reports a failure only to its visitor."""
        try:
            yield from changes
            return
        except UserError as error:  # the page is being stopped, or the upload is gone
            text = str(error)
        except Exception:
            _log.exception("a question could not be answered")
            text = "the server could not answer this; its log says why"
        yield self._replies.no_answers() | {self._parts.button_note: panels.fill("problem", text)}
        raise _message(text)


def _message(text: str) -> gr.Error:
    """Returns an error for programs, as HTML; a browser shows the notes instead."""
    return gr.Error(html.escape(text, quote=False), visible=False, print_exception=False)

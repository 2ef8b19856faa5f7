"""The components of the page, their layout, and their look in light and dark colours."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from llava.serve.web.arguments import Limits
from llava.serve.web.panels import (
    CAPTION,
    EMPTY_OVERLAY,
    SEEN,
    answer_card,
    empty_candidates,
    name_of,
    safe,
)
from llava.serve.web.script import read_template, refuse_files

_INTRO = """<div class="intro"><h1>Ask with fewer visual tokens</h1>{about}
<p>The model answers twice: from the few patches of the image that it may keep{text}, and
from all of them. Move the slider to see which patches stay, and why.</p></div>"""

# Characters of a question that the browser accepts: a longer one is reported, not cut.
_TYPED = 10_000
# Fonts of the visitor's machine: nothing is loaded from elsewhere.
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
_MONOSPACE = ["ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace"]
STYLE = read_template("style.css")


def theme() -> gr.themes.Base:
    """Returns Gradio's default theme in blue, with fonts of the visitor's machine."""
    return gr.themes.Default(primary_hue="blue", font=_FONTS, font_mono=_MONOSPACE)


@dataclass(frozen=True)
class Parts:
    """The components that events use or change.

    Attributes:
        image, question, budget, pruner, button: the inputs.
        examples: the buttons of the examples.
        looked: the result of checking an uploaded file, only for the browser.
        record: the answers with their details for programs, as hidden JSON.
        image_note, question_note, budget_note, button_note: the notes on each input.
        warning: the warning that the picture is far from the kind that the model knows.
        pruned, full: the two answers.
        overlay, candidates, stages: the details of the answers.
        shown: the subject of the answers, on the server's side.
    """

    image: gr.Image
    question: gr.Textbox
    budget: gr.Slider
    pruner: gr.Dropdown
    button: gr.Button
    examples: list[gr.Button]
    looked: gr.JSON
    record: gr.JSON  # the first of the outputs, in the order in which programs receive them
    image_note: gr.HTML
    question_note: gr.HTML
    budget_note: gr.HTML
    button_note: gr.HTML
    warning: gr.HTML
    pruned: gr.HTML
    full: gr.HTML
    overlay: gr.HTML
    candidates: gr.HTML
    stages: gr.HTML
    shown: gr.State

    @property
    def outputs(self) -> list[gr.components.Component]:
        """All components that a question changes, the record first."""
        names = [field.name for field in fields(self)]
        return [getattr(self, name) for name in names[names.index("record") :]]


def lay_out(
    examples: list[tuple[str, str]],
    budgets: tuple[int, int],
    pruners: list[str],
    pruner: str,
    writes: str,
    limits: Limits,
    about: str | None,
) -> Parts:
    """Adds all components to the Gradio page that is being built.

    Args:
        examples: image files and questions to pick from; the first is chosen at the start.
        budgets: the initial K, and N of the first example.
        pruners: those that fit the model.
        pruner: the initial one.
        writes: what the model reads beside the patches; see LlavaAccm.writes.
        limits: limits of what a visitor may send.
        about: a line on what the model knows.
    """
    of_others = " of the others" * (writes == CAPTION)
    text = f" and {writes}{of_others}" if writes else ""
    gr.HTML(_INTRO.format(text=text, about=f"<p><b>{safe(about)}.</b></p>" if about else ""))
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            asked = _lay_out_question(examples, budgets, pruners, pruner, limits)
        with gr.Column(scale=9, min_width=300, elem_classes="answers"):
            answers = _lay_out_answers(budgets[1], writes)
    return Parts(
        **asked,
        **answers,
        record=gr.JSON(visible=False),
        looked=gr.JSON(visible=False),
        shown=gr.State(time_to_live=limits.upload_age),
    )


def budget_label(patches: int) -> str:
    """Returns the label of the slider for an image of N tokens."""
    return f"Tokens to keep, of {patches}"


def _lay_out_question(
    examples: list[tuple[str, str]],
    budgets: tuple[int, int],
    pruners: list[str],
    pruner: str,
    limits: Limits,
) -> dict[str, Any]:
    """Lays out the inputs; returns them by their names in Parts."""
    parts: dict[str, Any] = {}
    with gr.Column(elem_classes="field", min_width=0):
        parts["image"] = gr.Image(
            examples[0][0],
            label="Image",
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=300,
            elem_classes="asked",
            alt_text="the image that is asked about",
        )
        parts["image_note"] = gr.HTML(
            SEEN, elem_classes="notes", js_on_load=refuse_files(limits.max_upload_bytes)
        )
    with gr.Column(elem_classes="field", min_width=0):
        parts["question"] = gr.Textbox(
            examples[0][1],
            label="Question",
            max_length=max(_TYPED, limits.max_question_length),
            lines=1,
            max_lines=6,
        )
        parts["question_note"] = gr.HTML(elem_classes="notes")
    with gr.Column(elem_classes="field", min_width=0):
        budget, patches = budgets
        parts["budget"] = gr.Slider(1, patches, budget, step=1, label=budget_label(patches))
        parts["pruner"] = gr.Dropdown(pruners, value=pruner, label="Chosen by", filterable=False)
        parts["budget_note"] = gr.HTML(elem_classes="notes")
    with gr.Column(elem_classes="field", min_width=0):
        parts["button"] = gr.Button("Ask", variant="primary", elem_classes="ask")
        parts["button_note"] = gr.HTML(elem_classes="notes")
    with gr.Column(elem_classes="examples", min_width=0):
        gr.HTML("<h2>Examples</h2>")
        parts["examples"] = [
            gr.Button(text, icon=path, size="sm", elem_classes="example") for path, text in examples
        ]
    return parts


def _lay_out_answers(patches: int, writes: str) -> dict[str, gr.HTML]:
    """Lays out the answers; returns their components by their names in Parts."""
    parts = {"warning": gr.HTML(visible=False)}  # otherwise it would take up space
    with gr.Row():
        with gr.Column(min_width=250, elem_classes="half"):
            parts["pruned"] = gr.HTML(answer_card(name_of(None, patches, writes), ""))
        with gr.Column(min_width=250):
            parts["full"] = gr.HTML(answer_card(name_of(patches, patches, writes), ""))
    with gr.Row():
        with gr.Column(scale=5, min_width=280):
            parts["overlay"] = gr.HTML(EMPTY_OVERLAY)
        with gr.Column(scale=4, min_width=280):
            parts["candidates"] = gr.HTML(empty_candidates(writes))
            parts["stages"] = gr.HTML()
    return parts

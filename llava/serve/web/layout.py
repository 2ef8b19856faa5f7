"""What is on the page, and where."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from llava.serve.web.panels import EMPTY_CANDIDATES, EMPTY_OVERLAY, answer_card, safe

_INTRO = """<div class="intro"><h1>Ask with fewer visual tokens</h1>{about}
<p>The model answers twice: from the few patches of the image that it may keep and a caption of the
others, and from all of them. Move the slider to see which patches stay, and why.</p></div>"""


@dataclass(frozen=True)
class Parts:
    """The components that something happens to.

    Attributes:
        image, question, budget, button: what is asked with.
        gallery: the examples.
        warning: that the picture is far from what the model knows.
        pruned, full: the two answers.
        overlay, candidates, stages: how they came about.
        record: the same for programs, as JSON; not to be seen.
        shown: what the answers are about, on the server's side.
    """

    image: gr.Image
    question: gr.Textbox
    budget: gr.Slider
    button: gr.Button
    gallery: gr.Dataset
    warning: gr.HTML
    pruned: gr.HTML
    full: gr.HTML
    overlay: gr.HTML
    candidates: gr.HTML
    stages: gr.HTML
    record: gr.JSON
    shown: gr.State

    @property
    def outputs(self) -> list[gr.components.Component]:
        """All that an answer changes, the record first."""
        return [
            self.record,
            self.warning,
            self.pruned,
            self.full,
            self.overlay,
            self.candidates,
            self.stages,
            self.shown,
        ]


def lay_out(
    examples: list[tuple[str, str]],
    budget: int,
    patches: int,
    question_length: int,
    age: int,
    about: str | None,
) -> Parts:
    """Puts everything into the Gradio page that is being built.

    Args:
        examples: image files and questions to pick from; the first is there from the start.
        budget: K to begin with.
        patches: N of the model.
        question_length: characters that fit into the question.
        age: seconds after which the server forgets what a visitor was shown.
        about: what the model knows, in a line.
    """
    gr.HTML(_INTRO.format(about=f"<p><b>{safe(about)}.</b></p>" if about else ""))
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            image = gr.Image(
                examples[0][0],
                label="Image",
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                height=300,
                elem_classes="asked",
            )
            question = gr.Textbox(
                examples[0][1], label="Question", max_length=question_length, lines=1
            )
            slider = gr.Slider(1, patches, budget, step=1, label=f"Tokens to keep, of {patches}")
            button = gr.Button("Ask", variant="primary")
            gallery = gr.Dataset(
                components=[image],
                samples=[[path] for path, _ in examples],
                label="Examples",
                type="index",
            )
        with gr.Column(scale=9, min_width=300):
            warning = gr.HTML(visible=False)  # else it would take room
            with gr.Row():
                with gr.Column(min_width=250):
                    pruned = gr.HTML(answer_card("Some tokens and a caption", ""))
                with gr.Column(min_width=250):
                    full = gr.HTML(answer_card(f"All {patches} tokens", ""))
            with gr.Row():
                with gr.Column(scale=5, min_width=280):
                    overlay = gr.HTML(EMPTY_OVERLAY)
                with gr.Column(scale=4, min_width=280):
                    candidates = gr.HTML(EMPTY_CANDIDATES)
                    stages = gr.HTML()
    return Parts(
        image=image,
        question=question,
        budget=slider,
        button=button,
        gallery=gallery,
        warning=warning,
        pruned=pruned,
        full=full,
        overlay=overlay,
        candidates=candidates,
        stages=stages,
        record=gr.JSON(visible=False),
        shown=gr.State(time_to_live=age),
    )

"""The mini model's answers about images/scene.png, which the figures show."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Answer, Sample

_SCENE = (5, "train", 16)  # seed, split and number; the mini model learnt from seed 0
QUESTION = "What color is the star?"


@dataclass(frozen=True)
class Asked:
    """An answer, and the answer without its caption.

    Attributes:
        answer: the answer of the whole method.
        without_caption: the text that the LLM writes from the same tokens alone.
    """

    answer: Answer
    without_caption: str


def draw_example_scene() -> Image.Image:
    """Draws the scene, which was picked because its answer and caption are right at 9 tokens."""
    return draw_scene(make_scene(scene_generator(*_SCENE)))


def ask(model: LlavaAccm, scene: Image.Image, tokens: int) -> Asked:
    """Asks QUESTION, with and without the caption."""
    sample = Sample(scene, QUESTION, visual_token_num=tokens)
    (answer,) = model.answer([sample])
    (bare,) = model.without_captions().answer([sample])
    return Asked(answer, bare.text)

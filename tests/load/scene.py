"""A good picture, and a question about it."""

from __future__ import annotations

from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from tests.load.crowd import as_png

QUESTION = "What color is the star?"
ANSWER = "black"


def scene() -> bytes:
    """Returns a good picture."""
    return as_png(draw_scene(make_scene(scene_generator(5, "train", 16))))

"""Warns of pictures that a model cannot know."""

from __future__ import annotations

from PIL import Image

from llava.mini.likeness import looks_drawn
from llava.model.about import About

# The kinds of pictures that a model card may name -> what one is called, and what tells it.
_KINDS = {"drawn scenes": ("a drawn scene", looks_drawn)}


def warning_of(about: About, image: Image.Image) -> str | None:
    """Returns a warning where a picture (RGB) is far from the only kind that the model knows; None
    where it is not, or the model's card names no such kind."""
    if about.pictures not in _KINDS:
        return None
    kind, is_one = _KINDS[about.pictures]
    if is_one(image):
        return None
    return (
        f"this picture does not look like {kind}; {about.name} knows nothing else, and what it "
        "answers here means nothing"
    )

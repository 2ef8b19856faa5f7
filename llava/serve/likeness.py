"""Warnings of pictures of a kind that a model does not know."""

from __future__ import annotations

from PIL import Image

from llava.mini.likeness import looks_drawn
from llava.model.about import About

# Kinds of pictures that a model card may name -> their description, and their test.
_KINDS = {"drawn scenes": ("a drawn scene", looks_drawn)}


def warning_of(about: About, image: Image.Image) -> str | None:
    """Returns a warning if an RGB picture is far from the one kind that the model knows.

    Returns None if it is not, or if the model's card names no such kind.
    """
    if about.pictures not in _KINDS:
        return None
    kind, is_one = _KINDS[about.pictures]
    if is_one(image):
        return None
    return (
        f"this picture does not look like {kind}; {about.name} knows nothing else, and what it "
        "answers here means nothing"
    )

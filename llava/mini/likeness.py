"""Tells drawn scenes from other pictures by their colours, and warns of these."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from llava.mini.drawing import RGB, TONES
from llava.mini.scene import IMAGE_SIZE
from llava.model.about import About

# Measured on scenes and photographs, see tests/mini/test_likeness.py; scenes are far from each
# limit.
_NEAR_TONE = 30  # grey levels, of the background's clutter
_NEAR_COLOUR = 45  # Euclidean, in RGB, of an object's soft edges and noise
_MIN_BACKGROUND = 0.6
_MIN_OBJECTS = 0.01
_MIN_TOGETHER = 0.92


def looks_drawn(image: Image.Image, scale: int = 1) -> bool:
    """Tells whether a picture (RGB, of any size) looks like a scene of the mini world.

    It does if nearly all of it, noise removed, is either of one grey background or of the eight
    colours of the objects, and both occur. This takes some milliseconds.

    Args:
        image: the picture.
        scale: how many times larger than usual scenes are drawn, in pixels of a side.
    """
    side = scale * IMAGE_SIZE
    small = image.resize((side, side), Image.Resampling.BOX)
    pixels = np.asarray(small.filter(ImageFilter.MedianFilter(3)), dtype=np.float32)
    tone = np.median(pixels, axis=(0, 1))
    low, high = (level + margin for level, margin in zip(TONES, (-_NEAR_TONE, _NEAR_TONE)))
    is_grey = tone.min() >= low and tone.max() <= high and np.ptp(tone) <= _NEAR_TONE
    is_background = np.abs(pixels - tone).max(axis=-1) <= _NEAR_TONE
    colours = np.array(list(RGB.values()), dtype=np.float32)
    away = np.linalg.norm(pixels[:, :, None] - colours, axis=-1).min(axis=-1)
    background, objects = is_background.mean(), (~is_background & (away <= _NEAR_COLOUR)).mean()
    return bool(
        is_grey
        and background >= _MIN_BACKGROUND
        and objects >= _MIN_OBJECTS / scale**2  # they have the same size in pixels
        and background + objects >= _MIN_TOGETHER
    )


def warning_of(about: About, image: Image.Image) -> str | None:
    """Returns a warning if an RGB picture is far from drawn scenes, and the model knows no others.

    Returns None if it is not, or if the model's card does not say that.
    """
    if about.pictures != "drawn scenes" or looks_drawn(image, about.scene_scale):
        return None
    return (
        f"this picture does not look like a drawn scene; {about.name} knows nothing else, and what "
        "it answers here means nothing"
    )

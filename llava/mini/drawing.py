"""Draws scenes as pictures."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from llava.mini.scene import IMAGE_SIZE, Scene, Thing

RGB = {
    "red": (214, 39, 40),
    "green": (44, 150, 44),
    "blue": (40, 80, 220),
    "yellow": (240, 220, 40),
    "purple": (140, 50, 170),
    "orange": (250, 140, 20),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
_FINER = 2  # factor by which pictures are drawn larger, then reduced: soft edges
_CLUTTER = 6  # faint lines
TONES = (105, 165)  # grey levels of backgrounds
_NOISE = 7.0  # standard deviation, grey levels


def draw_scene(scene: Scene) -> Image.Image:
    """Draws a scene as an RGB picture of IMAGE_SIZE * scale pixels a side."""
    generator = np.random.default_rng(scene.background)
    tone = generator.integers(*TONES) + generator.integers(-12, 13, 3)
    zoom = _FINER * scene.scale
    side = IMAGE_SIZE * zoom
    image = Image.new("RGB", (side, side), tuple(int(level) for level in tone))
    canvas = ImageDraw.Draw(image)
    for _ in range(_CLUTTER):
        shade = tuple(int(level) for level in tone + generator.integers(-22, 23, 3))
        ends = [int(end) for end in generator.integers(0, side, 4)]
        canvas.line(ends, fill=shade, width=int(generator.integers(1, 4)) * _FINER)
    for thing in scene.things:
        _draw_thing(canvas, thing, zoom)
    pixels = np.asarray(image.reduce(_FINER), dtype=np.float32)
    pixels = pixels + generator.normal(0, _NOISE, pixels.shape).astype(np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _draw_thing(canvas: ImageDraw.ImageDraw, thing: Thing, zoom: int) -> None:
    """Draws an object, its coordinates multiplied by a zoom."""
    x, y, r = thing.x * zoom, thing.y * zoom, thing.radius * zoom
    color = RGB[thing.color]
    box = (x - r, y - r, x + r, y + r)
    if thing.shape == "circle":
        canvas.ellipse(box, fill=color)
    elif thing.shape == "ring":
        canvas.ellipse(box, outline=color, width=max(3, round(r * 0.4)))
    elif thing.shape == "square":
        s = r * 0.9
        canvas.rectangle((x - s, y - s, x + s, y + s), fill=color)
    elif thing.shape == "cross":
        w = r * 0.34
        canvas.rectangle((x - r, y - w, x + r, y + w), fill=color)
        canvas.rectangle((x - w, y - r, x + w, y + r), fill=color)
    elif thing.shape == "triangle":
        canvas.polygon(_corners(x, y + r * 0.2, r * 1.1, r * 1.1, 3), fill=color)
    else:
        canvas.polygon(_corners(x, y, r * 1.1, r * 0.45, 5), fill=color)


def _corners(x: float, y: float, outer: float, inner: float, points: int) -> list[tuple]:
    """Returns a star with that many points, the first on top; a polygon if both radii are equal."""
    radii = [outer] if inner == outer else [outer, inner]
    count = points * len(radii)
    return [
        (
            x + radii[i % len(radii)] * math.sin(2 * math.pi * i / count),
            y - radii[i % len(radii)] * math.cos(2 * math.pi * i / count),
        )
        for i in range(count)
    ]

"""Scenes of the mini world and their facts: coloured shapes on a 4 x 4 grid, drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

IMAGE_SIZE = 96  # pixels
GRID = 4
CELL = IMAGE_SIZE // GRID
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
SIZES = ("small", "large")
PLACES = ("northwest", "northeast", "southwest", "southeast")
MIN_OBJECTS, MAX_OBJECTS = 3, 6
LETTERS = "ABCD"  # of options
_RADII = {"small": (6.0, 7.5), "large": (9.5, 11.5)}  # pixels
_JITTER = 3  # pixels, of a centre around the middle of its cell: it never reaches another quarter

# Seeds of the three splits never coincide: they are different entries of the same seed.
SPLITS = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Thing:
    """An object of a scene.

    Attributes:
        shape, color, size: of SHAPES, COLORS, SIZES.
        cell: 0 to 15, row by row.
        x, y: centre in pixels.
        radius: in pixels.
    """

    shape: str
    color: str
    size: str
    cell: int
    x: float
    y: float
    radius: float

    @property
    def place(self) -> str:
        """The quarter of the image, of PLACES."""
        row, column = divmod(self.cell, GRID)
        return PLACES[2 * (row >= GRID // 2) + (column >= GRID // 2)]

    @property
    def name(self) -> str:
        """The colour and shape, which no other object of the scene has."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Objects on a background.

    Attributes:
        things: MIN_OBJECTS to MAX_OBJECTS of them, no two of one colour and shape.
        background: seed of the background's tone, clutter and noise.
        scale: its picture has this many times IMAGE_SIZE pixels a side, and objects as large, in
            pixels, as at scale 1: at 2 they are half as large in the picture. All coordinates are
            those of a picture of IMAGE_SIZE.
    """

    things: tuple[Thing, ...]
    background: int
    scale: int = 1


@dataclass(frozen=True)
class Fact:
    """A question with its answer.

    Attributes:
        kind: existence, color, shape, place, size, count or relation.
        text: the question, without options and answer format.
        answer: a word, "yes" and "no" included.
        subject: the object that it is about; None where there is none or no single one.
        others: wrong answers of the same sort; empty for yes and no.
    """

    kind: str
    text: str
    answer: str
    subject: Thing | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A fact as multiple choice.

    Attributes:
        fact: what is asked.
        options: two to four answers, one of them right.
        letter: of the right one.
    """

    fact: Fact
    options: tuple[str, ...]
    letter: str

    @property
    def text(self) -> str:
        """Question and options, without the answer format."""
        lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, self.options)]
        return "\n".join([self.fact.text, *lines])


def describe_things(scene: Scene) -> list[dict]:
    """Returns the objects of a scene for a file: all fields of Thing, place and name."""
    names = ("shape", "color", "size", "cell", "x", "y", "radius", "place", "name")
    return [{name: getattr(thing, name) for name in names} for thing in scene.things]


def read_things(records: Iterable[Mapping]) -> list[Thing]:
    """Reads the objects that describe_things wrote."""
    names = [field.name for field in fields(Thing)]
    return [Thing(**{name: record[name] for name in names}) for record in records]


def scene_generator(seed: int, split: str, number: int) -> np.random.Generator:
    """Returns the random generator of one scene and its texts."""
    return np.random.default_rng([seed, SPLITS[split], number])


def make_scene(generator: np.random.Generator, scale: int = 1) -> Scene:
    """Draws a random scene; its objects differ between scales only in their size."""
    count = int(generator.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    cells = generator.choice(GRID * GRID, count, replace=False)
    names = generator.choice(len(SHAPES) * len(COLORS), count, replace=False)
    things = tuple(
        make_thing(
            generator,
            SHAPES[name % len(SHAPES)],
            COLORS[name // len(SHAPES)],
            int(cell),
            scale=scale,
        )
        for cell, name in zip(cells, names)
    )
    return Scene(things, int(generator.integers(2**31)), scale)


def make_thing(
    generator: np.random.Generator,
    shape: str,
    color: str,
    cell: int,
    size: str | None = None,
    scale: int = 1,
) -> Thing:
    """Draws an object in a cell; its exact position, and its size if None, are random."""
    size = size or SIZES[generator.integers(len(SIZES))]
    row, column = divmod(cell, GRID)
    dx, dy = generator.uniform(-_JITTER, _JITTER, 2)
    return Thing(
        shape=shape,
        color=color,
        size=size,
        cell=cell,
        x=(column + 0.5) * CELL + dx,
        y=(row + 0.5) * CELL + dy,
        radius=draw_radius(generator, size, scale),
    )


def draw_radius(generator: np.random.Generator, size: str, scale: int) -> float:
    """Returns a random radius of an object of that size, in pixels of a picture of IMAGE_SIZE."""
    return float(generator.uniform(*_RADII[size])) / scale


def change_one(generator: np.random.Generator, scene: Scene) -> tuple[Scene, int, str]:
    """Returns the same scene with another value of one attribute of one object.

    Returns:
        The changed scene, the number of the object, and "color", "shape", "place" or "size".
    """
    which = int(generator.integers(len(scene.things)))
    thing = scene.things[which]
    attribute = ("color", "shape", "place", "size")[generator.integers(4)]
    taken = {other.name for other in scene.things}
    if attribute == "color":
        free = [c for c in COLORS if f"{c} {thing.shape}" not in taken]
        changed = replace(thing, color=free[generator.integers(len(free))])
    elif attribute == "shape":
        free = [s for s in SHAPES if f"{thing.color} {s}" not in taken]
        changed = replace(thing, shape=free[generator.integers(len(free))])
    elif attribute == "size":
        size = SIZES[1 - SIZES.index(thing.size)]
        changed = replace(thing, size=size, radius=draw_radius(generator, size, scene.scale))
    else:
        used = {other.cell for other in scene.things}
        same = (thing.shape, thing.color)
        there = [make_thing(generator, *same, c, thing.size, scene.scale) for c in range(16)]
        elsewhere = [t for t in there if t.cell not in used and t.place != thing.place]
        changed = elsewhere[generator.integers(len(elsewhere))]
    things = scene.things[:which] + (changed,) + scene.things[which + 1 :]
    return replace(scene, things=things), which, attribute

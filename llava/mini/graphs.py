"""The scene graph of a drawn scene: its objects, the quarters of the image, and how they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from llava.mini.scene import COLORS, GRID, IMAGE_SIZE, PLACES, SHAPES, SIZES, Thing
from llava.model.compensation.triplets import Names

IN, LEFT, ABOVE = 1, 2, 3  # predicates
_OBJECTS = [f"{size} {color} {shape}" for size in SIZES for color in COLORS for shape in SHAPES]
# Quarters are objects too. The first name of each kind is the placeholder that VG150 has as well.
NAMES = Names(("N/A", *_OBJECTS, *PLACES), ("__background__", "in the", "left of", "above"))
MOST_TRIPLETS = 15  # six objects in their quarters, and nine pairs of neighbours


@dataclass(frozen=True)
class Node:
    """An object, or a quarter of the image.

    Attributes:
        name: index into the classes of NAMES.
        box: centre x, centre y, width and height as shares of the image.
    """

    name: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Relation:
    """A true triplet: a subject, the index of a predicate in NAMES, and an object."""

    subject: Node
    predicate: int
    object: Node

    @property
    def text(self) -> str:
        """The triplet as a compensation writes it."""
        classes = NAMES.classes
        words = classes[self.subject.name], NAMES.predicates[self.predicate]
        return " ".join((*words, classes[self.object.name]))


def node_of(thing: Thing) -> Node:
    """Returns an object as a node."""
    side = 2 * thing.radius / IMAGE_SIZE
    name = NAMES.classes.index(f"{thing.size} {thing.name}")
    return Node(name, (thing.x / IMAGE_SIZE, thing.y / IMAGE_SIZE, side, side))


def quarter_of(thing: Thing) -> Node:
    """Returns the quarter in which an object lies as a node."""
    south, east = divmod(PLACES.index(thing.place), 2)
    return Node(NAMES.classes.index(thing.place), (0.25 + east / 2, 0.25 + south / 2, 0.5, 0.5))


def relations_of(things: Sequence[Thing]) -> list[Relation]:
    """Returns the true triplets of a scene, at most MOST_TRIPLETS.

    Each object is in a quarter. Of two objects in quarters beside each other the western one is
    left of the other, of two in quarters upon each other the northern one is above the other: as
    the questions of the mini world have it, but for objects in opposite corners. No two triplets
    have the same subject and object.
    """
    found = [Relation(node_of(thing), IN, quarter_of(thing)) for thing in things]
    return found + list(_neighbours(things))


def _neighbours(things: Sequence[Thing]) -> Iterator[Relation]:
    """Yields the triplets of objects in quarters with a common side."""
    for one, other in permutations(things, 2):
        (row, column), (other_row, other_column) = (_quarter(t) for t in (one, other))
        if row == other_row and column < other_column:
            yield Relation(node_of(one), LEFT, node_of(other))
        elif column == other_column and row < other_row:
            yield Relation(node_of(one), ABOVE, node_of(other))


def _quarter(thing: Thing) -> tuple[int, int]:
    """Returns row and column of an object's quarter, 0 or 1."""
    row, column = divmod(thing.cell, GRID)
    return row // (GRID // 2), column // (GRID // 2)

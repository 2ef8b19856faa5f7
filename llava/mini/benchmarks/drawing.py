"""Draws questions so that no answer is a better guess than another."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from llava.mini import language
from llava.mini.drawing import draw_scene
from llava.mini.language import ATTRIBUTES, LETTERS, NUMBERS, Choice, Fact
from llava.mini.scene import Scene, describe_things, make_scene, scene_generator

T = TypeVar("T")
JPEG_QUALITY = 95
# Numbers that questions ask for: of the objects of a shape, and of all objects. There are four of
# each, so that they also make four options; a blind guess is right in one case of four.
_COUNTS = [(False, NUMBERS[n]) for n in range(4)] + [(True, NUMBERS[n]) for n in range(3, 7)]
_HOW = ("random", "popular", "adversarial")


@dataclass(frozen=True)
class Found(Generic[T]):
    """A scene, the value found in it, and a random generator for more.

    Attributes:
        scene: the scene.
        value: the value found.
        generator: the scene's own, after the draws for the value.
    """

    scene: Scene
    value: T
    generator: np.random.Generator


@dataclass(frozen=True)
class Note:
    """The record of a question.

    Attributes:
        kind: as of Fact, or "caption".
        caption: a true one that names the object asked for first, then another.
        subject: the name of that object; None where none or no single one is asked for.
        things: all objects, as describe_things writes them.
    """

    kind: str
    caption: str
    subject: str | None
    things: list[dict]


class SceneSource:
    """A source of scenes, each given out once.

    Args:
        seed, split: of the scenes.
        first: number of the first one.
        scale: see Scene.
    """

    def __init__(self, seed: int, split: str, first: int, scale: int = 1) -> None:
        self._seed, self._split, self._next, self._scale = seed, split, first, scale

    def find(self, make: Callable[[Scene, np.random.Generator], T | None]) -> Found[T]:
        """Returns the next scene from which `make` makes something, and the result."""
        while True:
            generator = scene_generator(self._seed, self._split, self._next)
            self._next += 1
            scene = make_scene(generator, self._scale)
            value = make(scene, generator)
            if value is not None:
                return Found(scene, value, generator)


def values(kind: str) -> int:
    """Returns the number of answers to a kind of open question."""
    return len(_COUNTS) if kind == "count" else len(ATTRIBUTES[kind])


def open_question(source: SceneSource, kind: str, turn: int) -> Found[Fact]:
    """Makes a question for a colour, shape, place, size or number.

    Args:
        source: of the scene.
        kind: color, shape, place, size or count.
        turn: number of the question; the right answer rotates with it.
    """
    if kind == "count":
        return source.find(partial(_count, *_COUNTS[turn % len(_COUNTS)]))
    return source.find(partial(_attribute, kind, ATTRIBUTES[kind][turn % len(ATTRIBUTES[kind])]))


def yes_and_no(source: SceneSource, kind: str, turn: int) -> Found[tuple[Fact, Fact]]:
    """Makes two questions about one scene: the first to be answered by yes, the second by no.

    Args:
        source: of the scene.
        kind: any.
        turn: number of the pair; right answers, and ways to choose absent things, rotate with it.
    """
    if kind == "existence":
        return source.find(
            lambda scene, generator: (
                language.existence(scene, generator, "yes", "random"),
                language.existence(scene, generator, "no", _HOW[turn % len(_HOW)]),
            )
        )
    if kind == "relation":
        return source.find(_relations)
    found = open_question(source, kind, turn)
    fact, wrong = found.value, _wrong_answers(found)[0]
    facts = (language.verify_value(fact, fact.answer), language.verify_value(fact, wrong))
    return Found(found.scene, facts, found.generator)


def choice(source: SceneSource, kind: str, turn: int) -> Found[Choice]:
    """Makes an open question as multiple choice; the right option's place rotates too.

    Wrong options are answers about other objects of the scene, as far as there are any.
    """
    found = open_question(source, kind, turn)
    options = _wrong_answers(found)[: len(LETTERS) - 1]
    # One step more each time that all right answers were used: no answer keeps its letter.
    place = (turn + turn // values(kind)) % (len(options) + 1)
    options.insert(place, found.value.answer)
    return Found(found.scene, Choice(found.value, tuple(options), LETTERS[place]), found.generator)


def note(scene: Scene, fact: Fact, generator: np.random.Generator) -> Note:
    """Returns the record of a question."""
    things = describe_things(scene)
    if fact.subject is None:
        return Note(fact.kind, language.caption(scene, generator), None, things)
    others = [thing for thing in scene.things if thing != fact.subject]
    # Of a relation: the other object.
    named = [thing for thing in others if thing.name in fact.text]
    other = (named or others)[generator.integers(len(named or others))]
    caption = language.caption_of([fact.subject, other])
    return Note(fact.kind, caption, fact.subject.name, things)


def write_image(scene: Scene, path: Path) -> None:
    """Draws a scene into a JPEG file, whatever the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(scene))


def jpeg(scene: Scene) -> bytes:
    """Returns a scene as JPEG."""
    file = io.BytesIO()
    draw_scene(scene).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _attribute(kind: str, answer: str, scene: Scene, generator: np.random.Generator) -> Fact | None:
    fact = language.attribute(scene, generator, kind)
    return fact if fact is not None and fact.answer == answer else None


def _count(of_all: bool, answer: str, scene: Scene, generator: np.random.Generator) -> Fact | None:
    fact = language.count(scene, generator)
    if fact.answer != answer or (" objects " in fact.text) != of_all:
        return None
    return replace(fact, others=tuple(n for a, n in _COUNTS if a == of_all and n != answer))


def _relations(scene: Scene, generator: np.random.Generator) -> tuple[Fact, Fact] | None:
    yes, no = [language.relation(scene, generator, answer) for answer in ("yes", "no")]
    return None if yes is None or no is None else (yes, no)


def _wrong_answers(found: Found[Fact]) -> list[str]:
    """Returns wrong answers in random order, those that are right of other objects first."""
    fact = found.value
    near = [] if fact.kind == "count" else language.near_values(fact, found.scene)
    far = [answer for answer in fact.others if answer not in near]
    return [str(a) for group in (near, far) for a in found.generator.permutation(group)]

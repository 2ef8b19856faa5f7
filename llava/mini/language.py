"""Sentences and questions about a scene, in a small English."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from llava.constants import (
    OPTION_LETTER_SUFFIX,
    OPTIONS_HEADING,
    SHORT_ANSWER_SUFFIX,
    YES_OR_NO,
)
from llava.mini.scene import COLORS, LETTERS, PLACES, SHAPES, SIZES, Choice, Fact, Scene, Thing

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
CAPTION_PROMPT = "Provide a one-sentence caption for the provided image."
# Attribute -> the word that asks for it, and its values.
ATTRIBUTES = {"color": COLORS, "shape": SHAPES, "place": PLACES, "size": SIZES}
# Relation -> the halves of the image in which its two objects lie.
_DIRECTIONS = {
    "left of": ("west", "east"),
    "right of": ("east", "west"),
    "above": ("north", "south"),
    "below": ("south", "north"),
}
_NAMED = 2  # objects that a caption names
# The phrase that describe makes of an object.
PHRASE = re.compile(
    rf"(?P<size>{'|'.join(SIZES)}) (?P<color>{'|'.join(COLORS)}) "
    rf"(?P<shape>{'|'.join(SHAPES)}) (?P<place>{'|'.join(PLACES)})"
)


def caption(scene: Scene, generator: np.random.Generator) -> str:
    """Returns a sentence that names some objects of a scene, each with its quarter."""
    chosen = generator.choice(len(scene.things), _NAMED, replace=False)
    return caption_of([scene.things[i] for i in chosen])


def caption_of(things: Sequence[Thing]) -> str:
    """Returns a sentence that names these objects in this order, each with its quarter."""
    return " and ".join(describe(thing) for thing in things) + "."


def describe(thing: Thing) -> str:
    """Describes an object in a phrase with all its attributes."""
    return f"a {thing.size} {thing.name} {thing.place}"


def reworded(phrase: re.Match, attribute: str, value: str) -> str:
    """Returns an object's phrase with another value of one of ATTRIBUTES.

    Args:
        phrase: a match of PHRASE.
    """
    return " ".join((phrase.groupdict() | {attribute: value}).values())


def falsify(text: str, share: float, generator: np.random.Generator) -> str:
    """Returns a caption in which each phrase is, with a given chance, false in one attribute."""

    def said(phrase: re.Match) -> str:
        if generator.random() >= share:
            return phrase.group()
        attribute = _pick(generator, tuple(ATTRIBUTES))
        others = [value for value in ATTRIBUTES[attribute] if value != phrase[attribute]]
        return reworded(phrase, attribute, _pick(generator, others))

    return PHRASE.sub(said, text)


# Questions of one kind ---------------------------------------------------------------------------


def existence(scene: Scene, generator: np.random.Generator, answer: str, how: str) -> Fact:
    """Asks whether an object exists; one that does not is chosen in POPE's way.

    Args:
        answer: "yes" or "no".
        how: random (any absent one), popular (an absent one of a colour that is present),
            adversarial (colour and shape are both present, at different objects).
    """
    if answer == "yes":
        thing = _pick(generator, scene.things)
        return Fact("existence", f"Is there {_a(thing.name)} in the image?", "yes", thing)
    names = {thing.name for thing in scene.things}
    colors = {thing.color for thing in scene.things}
    shapes = {thing.shape for thing in scene.things}
    absent = [(c, s) for c in COLORS for s in SHAPES if f"{c} {s}" not in names]
    near = {
        "random": absent,
        "popular": [(c, s) for c, s in absent if c in colors or s in shapes],
        "adversarial": [(c, s) for c, s in absent if c in colors and s in shapes],
    }[how] or absent
    color, shape = _pick(generator, near)
    return Fact("existence", f"Is there {_a(f'{color} {shape}')} in the image?", "no")


def attribute(scene: Scene, generator: np.random.Generator, kind: str) -> Fact | None:
    """Asks for an object's colour, shape, place or size; None where no object has a unique name."""
    named = named_without(scene, kind)
    if not named:
        return None
    thing, name = _pick(generator, named)
    return attribute_of(thing, name, kind)


def attribute_of(thing: Thing, name: str, kind: str) -> Fact:
    """Asks for the attribute of an object by a name of it."""
    if kind == "place":
        text = f"Where is the {name}?"
    else:
        text = f"What {kind} is the {name}?"
    answer = getattr(thing, kind)
    return Fact(kind, text, answer, thing, tuple(a for a in ATTRIBUTES[kind] if a != answer))


def named_without(scene: Scene, kind: str) -> list[tuple[Thing, str]]:
    """Returns objects with a name that does not tell an attribute and fits no other object."""
    by_shape = [(thing, thing.shape) for thing in scene.things]
    by_color = [(thing, f"{thing.color} object") for thing in scene.things]
    by_both = [(thing, thing.name) for thing in scene.things]
    names = {"color": by_shape, "shape": by_color}.get(kind, by_shape + by_both)
    tally = Counter(name for _, name in names)
    return [(thing, name) for thing, name in names if tally[name] == 1]


def verify(scene: Scene, generator: np.random.Generator, kind: str, answer: str) -> Fact | None:
    """Asks whether an object has a certain colour, shape, place or size."""
    fact = attribute(scene, generator, kind)
    if fact is None:
        return None
    if answer == "yes":
        return verify_value(fact, fact.answer)
    return verify_value(fact, _pick(generator, near_values(fact, scene) or fact.others))


def verify_value(fact: Fact, value: str) -> Fact:
    """Asks whether the answer to a question for an attribute or number is a certain one."""
    if fact.kind == "count":
        what = fact.text.removeprefix("How many ").removesuffix(" are there in the image?")
        text = f"Is the number of {what} in the image {value}?"
    else:
        name = fact.text.split(" the ", 1)[1].rstrip("?")
        said = {"place": f"in the {value}", "shape": _a(value)}.get(fact.kind, value)
        text = f"Is the {name} {said}?"
    return Fact(fact.kind, text, "yes" if value == fact.answer else "no", fact.subject)


def near_values(fact: Fact, scene: Scene) -> list[str]:
    """Returns the wrong answers that are right of other objects: harder mistakes."""
    return sorted({getattr(thing, fact.kind) for thing in scene.things} & set(fact.others))


def count(scene: Scene, generator: np.random.Generator) -> Fact:
    """Asks for the number of objects of a shape, or of all."""
    if generator.random() < 0.3:
        number, what = len(scene.things), "objects"
    else:
        tally = Counter(thing.shape for thing in scene.things)
        # Each number is asked for equally often, as far as the scene allows.
        wanted = _pick(generator, sorted({tally[s] for s in SHAPES}))
        shape = _pick(generator, [s for s in SHAPES if tally[s] == wanted])
        number, what = tally[shape], shape + ("es" if shape == "cross" else "s")
    others = [n for n in range(max(0, number - 2), number + 4) if n != number and n < len(NUMBERS)]
    wrong = tuple(NUMBERS[n] for n in others)
    return Fact("count", f"How many {what} are there in the image?", NUMBERS[number], None, wrong)


def verify_count(scene: Scene, generator: np.random.Generator, answer: str) -> Fact:
    """Asks whether there is that number of objects."""
    fact = count(scene, generator)
    number = fact.answer if answer == "yes" else _pick(generator, fact.others)
    return verify_value(fact, number)


def relation(scene: Scene, generator: np.random.Generator, answer: str) -> Fact | None:
    """Asks whether an object is left of, right of, above or below another one.

    The two lie in opposite halves of the image; None where all objects lie in one quarter.
    """
    pairs = [
        (a, b, direction)
        for a in scene.things
        for b in scene.things
        for direction, (half, other) in _DIRECTIONS.items()
        if half in a.place and other in b.place
    ]
    if not pairs:
        return None
    a, b, direction = _pick(generator, pairs)
    if answer == "no":
        a, b = b, a
    return Fact("relation", f"Is the {a.name} {direction} the {b.name}?", answer, a)


def statements(things: Sequence[Thing]) -> list[tuple[str, str]]:
    """Returns true statements, as questions, about objects that their shape or colour identifies.

    Word after word they say what can be seen, the name first.
    """
    shapes = Counter(thing.shape for thing in things)
    colors = Counter(thing.color for thing in things)
    pairs = []
    for thing in things:
        rest = f"{thing.size} and {thing.place}. True?"
        if shapes[thing.shape] == 1:
            pairs.append((f"The {thing.shape} is {thing.color}, {rest}", "yes"))
        if colors[thing.color] == 1:
            pairs.append((f"The {thing.color} object is {_a(thing.shape)}, {rest}", "yes"))
    return pairs


def letter_exercise(generator: np.random.Generator) -> tuple[str, str]:
    """Asks for an option's letter: the second half of every multiple choice, without the first."""
    words = list(ATTRIBUTES[_pick(generator, tuple(ATTRIBUTES))])
    options = generator.permutation(words)[:4].tolist()
    place = int(generator.integers(len(options)))
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options)]
    text = "\n".join([f"Which letter is {options[place]}?", *lines])
    return text + OPTION_LETTER_SUFFIX, LETTERS[place]


def choice(fact: Fact, generator: np.random.Generator, size: int = 4) -> Choice:
    """Turns a fact into multiple choice, with the right answer at a random place."""
    wrong = min(size - 1, len(fact.others))
    options = [fact.answer, *generator.choice(fact.others, wrong, replace=False).tolist()]
    order = generator.permutation(len(options))
    shown = tuple(options[i] for i in order)
    return Choice(fact, shown, LETTERS[shown.index(fact.answer)])


# Everything about one scene, for training --------------------------------------------------------


def conversations(scene: Scene, generator: np.random.Generator) -> list[tuple[str, str]]:
    """Returns questions with answer formats, and answers: up to 27 per scene, in random order."""
    how = ("random", "popular", "adversarial")
    facts: list[Fact | None] = [
        existence(scene, generator, _coin(generator), _pick(generator, how)) for _ in range(4)
    ]
    for kind in ATTRIBUTES:
        facts += [attribute(scene, generator, kind) for _ in range(1 if kind == "size" else 2)]
        facts += [verify(scene, generator, kind, _coin(generator))]
    facts += [count(scene, generator), verify_count(scene, generator, _coin(generator))]
    facts += [relation(scene, generator, _coin(generator))]
    pairs = [(_formatted(f, generator), f.answer) for f in facts if f is not None]
    for kind in (*ATTRIBUTES, "color", "shape", "place", "count"):
        fact = count(scene, generator) if kind == "count" else attribute(scene, generator, kind)
        if fact is not None:
            asked = choice(fact, generator, _pick(generator, (2, 4, 4)))
            heading = _pick(generator, ("", f" {OPTIONS_HEADING}"))
            text = asked.text.replace("\n", f"{heading}\n", 1)
            pairs.append((text + OPTION_LETTER_SUFFIX, asked.letter))
    pairs.append((CAPTION_PROMPT, caption(scene, generator)))
    return [pairs[i] for i in generator.permutation(len(pairs))]


def _formatted(fact: Fact, generator: np.random.Generator) -> str:
    """Returns a question with its answer format; sometimes MME's, where the answer is yes or no."""
    mme = fact.answer in ("yes", "no") and generator.random() < 0.3
    return fact.text + (f" {YES_OR_NO}" if mme else "") + SHORT_ANSWER_SUFFIX


# Words -------------------------------------------------------------------------------------------


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _coin(generator: np.random.Generator) -> str:
    return "yes" if generator.random() < 0.5 else "no"


def _pick(generator: np.random.Generator, items):
    return items[int(generator.integers(len(items)))]

"""Checks what captions name and whether that is true, and makes false captions."""

from __future__ import annotations

import re

from llava.mini.language import ATTRIBUTES, PHRASE, reworded
from llava.mini.measuring.questions import Asked
from llava.mini.scene import COLORS, PLACES, SHAPES, SIZES

_NAME = re.compile(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})\b")


def names(caption: str, subject: str) -> bool:
    """Returns whether an object's colour and shape stand next to each other in a caption."""
    return re.search(rf"\b{re.escape(subject)}\b", caption) is not None


def names_truly(caption: str, asked: Asked) -> bool:
    """Returns whether a caption gives the object asked for with its true size and place."""
    subject = asked.subject_thing
    return subject is not None and (
        (subject.size, subject.color, subject.shape, subject.place) in PHRASE.findall(caption)
    )


def count_phrases(caption: str, asked: Asked) -> tuple[int, int]:
    """Counts the objects that a caption describes in full, and how many of them are true."""
    phrases = PHRASE.findall(caption)
    there = {(thing.size, thing.color, thing.shape, thing.place) for thing in asked.things}
    return len(phrases), sum(phrase in there for phrase in phrases)


def false_caption(asked: Asked) -> str:
    """Returns the true caption of a question, made false in what the question asks for.

    Each object keeps the attributes by which it is identified and gets another colour, shape, place
    or size, whichever is asked for; in a relation the opposite quarter. An object that is asked for
    and absent is stated to be present. Where no attribute is asked for (captions, numbers), colours
    are false.
    """
    if asked.kind == "existence" and asked.subject is None:
        absent = _NAME.findall(asked.question.prompt)[0]
        return f"a {SIZES[0]} {absent} {PLACES[0]} and {asked.caption}"
    attribute = "place" if asked.kind == "relation" else asked.kind
    if attribute not in ATTRIBUTES:
        attribute = "color"
    values = ATTRIBUTES[attribute]

    def mirrored(phrase: re.Match) -> str:
        """Returns another value; of places, the opposite one."""
        return reworded(phrase, attribute, values[-1 - values.index(phrase[attribute])])

    return PHRASE.sub(mirrored, asked.caption)

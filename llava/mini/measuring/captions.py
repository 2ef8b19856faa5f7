"""What a written caption says of a scene, and whether it is so."""

from __future__ import annotations

import re

from llava.mini.measuring.questions import Asked
from llava.mini.scene import COLORS, PLACES, SHAPES, SIZES

_PHRASE = re.compile(
    rf"({'|'.join(SIZES)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) ({'|'.join(PLACES)})"
)


def names(caption: str, subject: str) -> bool:
    """Whether an object's colour and shape stand next to each other in a caption."""
    return re.search(rf"\b{re.escape(subject)}\b", caption) is not None


def names_truly(caption: str, asked: Asked) -> bool:
    """Whether a caption gives the object asked for with its true size and place."""
    subject = asked.subject_thing
    return subject is not None and (
        (subject.size, subject.color, subject.shape, subject.place) in _PHRASE.findall(caption)
    )


def count_phrases(caption: str, asked: Asked) -> tuple[int, int]:
    """How many objects a caption describes in full, and how many of them are there so."""
    phrases = _PHRASE.findall(caption)
    there = {(thing.size, thing.color, thing.shape, thing.place) for thing in asked.things}
    return len(phrases), sum(phrase in there for phrase in phrases)

"""The questions of the mini benchmarks with their records, and what captions say of these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.eval.benchmarks.registry import data_folder, reader
from llava.files import read_json
from llava.mini.language import ATTRIBUTES, PHRASE, reworded
from llava.mini.scene import COLORS, PLACES, SHAPES, SIZES, Thing, read_things

_NAME = re.compile(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})\b")
_DRAW_SEED = 0
_AGAIN = "make the benchmarks with python -m llava.mini.make_data"


@dataclass(frozen=True)
class Asked:
    """A question and its scene.

    Attributes:
        benchmark: its name.
        question: as the benchmark asks it.
        kind: color, count and so on.
        caption: a true one that names the object asked for.
        subject: name of that object; None where none or no single one is asked for.
        things: all objects.
    """

    benchmark: str
    question: Question
    kind: str
    caption: str
    subject: str | None
    things: list[Thing]

    @property
    def subject_thing(self) -> Thing | None:
        """The object that is asked for; None where there is no single one."""
        return next((thing for thing in self.things if thing.name == self.subject), None)


def read_asked(root: Path, benchmarks: Sequence[str], limit: int | None) -> list[Asked]:
    """Reads the questions of some benchmarks.

    Args:
        root: folder that make_data wrote.
        benchmarks: their names.
        limit: number of questions of each, drawn at random, the same each time; None takes all.

    Raises:
        UserError: files are missing, or of another version.
    """
    kinds, scenes = (read_json(root / name) for name in ("kinds.json", "scenes.json"))
    asked = []
    for benchmark in benchmarks:
        folder = data_folder(benchmark, None, str(root))
        for question in _some(reader(benchmark).read_questions(folder), limit):
            try:
                kind, note = kinds[benchmark][question.key], scenes[benchmark][question.key]
                asked.append(
                    Asked(
                        benchmark=benchmark,
                        question=question,
                        kind=kind,
                        caption=note["caption"],
                        subject=note["subject"],
                        things=read_things(note["things"]),
                    )
                )
            except (KeyError, TypeError) as error:
                raise UserError(
                    f"kinds.json or scenes.json in {root} lacks {error} of question {question.key} "
                    f"of {benchmark}: they are of other benchmarks or an older version; {_AGAIN}"
                ) from error
    return asked


def _some(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """Draws questions at random: the first ones, or every tenth, may all be of one kind."""
    if limit is None or limit >= len(questions):
        return list(questions)
    drawn = np.random.default_rng(_DRAW_SEED).choice(len(questions), limit, replace=False)
    return [questions[place] for place in sorted(drawn)]


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

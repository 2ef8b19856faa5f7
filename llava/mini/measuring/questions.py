"""The questions of the mini benchmarks with their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.eval.benchmarks.registry import data_folder, reader
from llava.files import read_json
from llava.mini.scene import Thing, read_things

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

"""Mini MMBench: a table of questions with two or four options, each in one rotation."""

from __future__ import annotations

import base64
import csv
from pathlib import Path

from llava.eval.benchmarks.mmbench import FILE, LETTERS
from llava.mini.benchmarks.drawing import Found, Note, SceneSource, choice, jpeg, note
from llava.mini.language import Choice

_COLUMNS = (
    *("index", "question", "hint", *LETTERS, "answer", "category", "image", "source"),
    *("l2-category", "comment", "split"),
)
# The abilities are MMBench's, the categories below them are the kinds of questions.
_ABILITIES = {
    "color": "finegrained_perception (instance-level)",
    "shape": "finegrained_perception (instance-level)",
    "place": "finegrained_perception (instance-level)",
    "size": "finegrained_perception (instance-level)",
    "count": "finegrained_perception (cross-instance)",
}


def write(folder: Path, source: SceneSource, size: int) -> dict[str, Note]:
    """Writes the benchmark, with that many questions per kind; see write_benchmarks."""
    notes: dict[str, Note] = {}
    with (folder / FILE).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS, restval="", delimiter="\t", lineterminator="\n")
        table.writeheader()
        for turn in range(size):
            for kind, ability in _ABILITIES.items():
                found = choice(source, kind, turn)
                table.writerow(_row(len(notes) + 1, found, ability))
                key = str(len(notes) + 1)
                notes[key] = note(found.scene, found.value.fact, found.generator)
    return notes


def _row(index: int, found: Found[Choice], ability: str) -> dict[str, object]:
    asked = found.value
    return {
        "index": index,
        "question": asked.fact.text,
        **dict(zip(LETTERS, asked.options)),
        "answer": asked.letter,
        "category": asked.fact.kind,
        "image": base64.b64encode(jpeg(found.scene)).decode(),
        "source": "mini",
        "l2-category": ability,
        "split": "dev",
    }

"""Mini POPE: three objects that are present and three that are not, absent in three ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from llava.eval.benchmarks.pope import CATEGORIES
from llava.mini.benchmarks.drawing import Note, SceneSource, note, write_image
from llava.mini.language import Fact, existence
from llava.mini.scene import Scene

_EACH = 3  # questions per image and category to be answered by yes, and the same number by no


def write(folder: Path, source: SceneSource, size: int) -> dict[str, Note]:
    """Writes the benchmark, of that many images; see write_benchmarks.

    Each image has questions in all three categories, as in POPE; our reader numbers them through
    the categories.
    """
    (folder / "coco").mkdir()
    found = [source.find(_facts) for _ in range(size)]
    names = [f"COCO_val2014_{number:012}.jpg" for number in range(1, size + 1)]
    for name, image in zip(names, found):
        write_image(image.scene, folder / "val2014" / name)
    notes: dict[str, Note] = {}
    for category in CATEGORIES:
        lines: list[dict] = []
        for name, image in zip(names, found):
            for fact in image.value[category]:
                label = {"text": fact.text, "label": fact.answer}
                lines.append({"question_id": len(lines) + 1, "image": name, **label})
                notes[str(len(notes) + 1)] = note(image.scene, fact, image.generator)
        path = folder / "coco" / f"coco_pope_{category}.json"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return notes


def _facts(scene: Scene, generator: np.random.Generator) -> dict[str, list[Fact]] | None:
    """Returns the questions by category, yes and no alternating; None if too little is absent."""
    colors, shapes = ({getattr(t, kind) for t in scene.things} for kind in ("color", "shape"))
    if len(colors) * len(shapes) - len(scene.things) < _EACH:
        return None
    present = _different(partial(existence, scene, generator, "yes", "random"))
    absent = {c: _different(partial(existence, scene, generator, "no", c)) for c in CATEGORIES}
    return {c: [f for pair in zip(present, absent[c]) for f in pair] for c in CATEGORIES}


def _different(draw: Callable[[], Fact]) -> list[Fact]:
    facts: dict[str, Fact] = {}
    while len(facts) < _EACH:
        fact = draw()
        facts[fact.text] = fact
    return list(facts.values())

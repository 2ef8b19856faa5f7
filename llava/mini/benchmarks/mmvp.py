"""Mini MMVP: pairs of images that differ in one attribute of one object, which is asked for."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np

from llava.mini.benchmarks.drawing import Note, SceneSource, note, write_image
from llava.mini.language import ATTRIBUTES, Fact, attribute_of, named_without
from llava.mini.scene import Scene, change_one

_COLUMNS = ("Index", "Question", "Options", "Correct Answer")
_LETTERS = ("(a)", "(b)")


Pair = tuple[tuple[Scene, Fact], tuple[Scene, Fact]]  # two scenes, the same question about both


def write(folder: Path, source: SceneSource, size: int) -> dict[str, Note]:
    """Writes the benchmark, of that many pairs; see write_benchmarks."""
    notes: dict[str, Note] = {}
    kinds = tuple(ATTRIBUTES)
    with (folder / "Questions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for turn in range(size):
            found = source.find(partial(draw_pair, kinds[turn % len(kinds)]))
            options = [fact.answer for _, fact in found.value]
            if turn // len(kinds) % 2:
                options.reverse()
            text = " ".join(f"{mark} {option}" for mark, option in zip(_LETTERS, options))
            for scene, fact in found.value:
                key = str(len(notes))
                index = len(notes) + 1
                table.writerow((index, fact.text, text, _LETTERS[options.index(fact.answer)]))
                write_image(scene, folder / "MMVP Images" / f"{index}.jpg")
                notes[key] = note(scene, fact, found.generator)
    return notes


def draw_pair(kind: str, scene: Scene, generator: np.random.Generator) -> Pair | None:
    """Makes a scene, the same with another colour, shape, place or size, and the question for it.

    Args:
        kind: the attribute that differs.
        scene: the first.
        generator: decides the change.

    Returns:
        None where another attribute was changed, or no name of the object fits both scenes.
    """
    changed, which, attribute = change_one(generator, scene)
    scenes = (scene, changed)
    names = [
        [name for thing, name in named_without(s, kind) if thing == s.things[which]] for s in scenes
    ]
    common = [name for name in names[0] if name in names[1]]
    if attribute != kind or not common:
        return None
    name = common[generator.integers(len(common))]
    first, second = (attribute_of(s.things[which], name, kind) for s in scenes)
    return (scene, first), (changed, second)

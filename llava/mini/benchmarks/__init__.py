"""The seven benchmarks about the mini world, each in its own native files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from llava.eval.benchmarks.registry import BENCHMARKS, FOLDERS
from llava.files import write_json
from llava.mini.benchmarks.drawing import SceneSource

# The size of each: images per task (MME), pairs (MMVP), images (POPE, Flickr30k), questions per
# kind.
SIZES = {
    "mme": 40,
    "mmbench": 72,
    "pope": 24,
    "mmvp": 150,
    "seed": 96,
    "gqa": 48,
    "flickr": 300,
}
_SCENES_EACH = 10**7  # scene numbers of a benchmark, more than it ever uses


def write_benchmarks(
    folder: Path, seed: int, split: str, sizes: Mapping[str, int] | None = None, scale: int = 1
) -> None:
    """Writes all seven, and a record of each question.

    The module of each has write(folder, source, size), which writes its files into an existing,
    empty folder about scenes of a source, and returns the record of each question by its key.
    ``<folder>/<name>`` is named as in registry.FOLDERS. ``kinds.json`` holds the kind of each
    question ({benchmark: {Question.key: kind}}); ``scenes.json`` a true caption that names the
    object asked for first, that object, and all objects ({benchmark: {key: {"caption", "subject",
    "things"}}}; subject is null where none or no single one is asked for).

    Args:
        folder: an existing, empty one.
        seed: of the scenes and questions.
        split: of scene.SPLITS. No two benchmarks share a scene.
        sizes: sizes other than SIZES, by benchmark.
        scale: of the scenes; see Scene.
    """
    sizes = {**SIZES, **(sizes or {})}
    notes = {}
    for place, benchmark in enumerate(tqdm(BENCHMARKS, desc="benchmarks", unit="benchmark")):
        own = folder / FOLDERS[benchmark][0]
        own.mkdir()
        source = SceneSource(seed, split, first=place * _SCENES_EACH, scale=scale)
        writer = import_module(f"llava.mini.benchmarks.{benchmark}")
        notes[benchmark] = writer.write(own, source, sizes[benchmark])
    kinds = {b: {key: note.kind for key, note in of.items()} for b, of in notes.items()}
    about = ("caption", "subject", "things")
    scenes = {
        b: {key: {name: getattr(note, name) for name in about} for key, note in of.items()}
        for b, of in notes.items()
    }
    write_json(folder / "kinds.json", kinds)
    write_json(folder / "scenes.json", scenes)

"""Mini MME: fourteen tasks, a yes and a no question about each image."""

from __future__ import annotations

from pathlib import Path

from llava.constants import YES_OR_NO
from llava.mini.benchmarks.drawing import Note, SceneSource, note, write_image, yes_and_no

# MME's scores are sums over all fourteen tasks. Four of them fit the mini world; the others are
# replaced by its other kinds of questions, with half as many images.
_TASKS = {
    "existence": ("existence",),
    "count": ("count",),
    "position": ("place", "relation"),
    "color": ("color",),
}
_STAND_INS = {
    "posters": ("shape",),
    "celebrity": ("size",),
    "scene": ("place",),
    "landmark": ("relation",),
    "artwork": ("color",),
    "OCR": ("shape",),
    "commonsense_reasoning": ("existence",),
    "numerical_calculation": ("count",),
    "text_translation": ("size",),
    "code_reasoning": ("relation",),
}


def write(folder: Path, source: SceneSource, size: int) -> dict[str, Note]:
    """Writes the benchmark, with that many images per task; see write_benchmarks."""
    release = folder / "MME_Benchmark_release_version"
    notes: dict[str, Note] = {}
    for task, kinds in (_TASKS | _STAND_INS).items():
        for turn in range(size if task in _TASKS else max(1, size // 2)):
            kind = kinds[turn % len(kinds)]
            notes |= _write_image(release / task, f"{turn:04}", source, kind, turn // len(kinds))
    return notes


def _write_image(
    folder: Path, name: str, source: SceneSource, kind: str, turn: int
) -> dict[str, Note]:
    found = yes_and_no(source, kind, turn)
    write_image(found.scene, folder / f"{name}.jpg")
    lines = [f"{f.text} {YES_OR_NO}\t{f.answer.capitalize()}\n" for f in found.value]
    (folder / f"{name}.txt").write_text("".join(lines), "utf-8")
    return {
        f"{folder.name}/{name} {fact.text}": note(found.scene, fact, found.generator)
        for fact in found.value
    }

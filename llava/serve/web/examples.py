"""Example scenes for the page, drawn when it starts."""

from __future__ import annotations

from pathlib import Path

from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator

# Seed, split and number of a scene (the first is images/scene.png), and a question about it.
_SCENES = (
    ((5, "train", 16), "What color is the star?"),
    ((5, "train", 41), "Where is the green circle?"),
    ((5, "train", 55), "What size is the red star?"),
)


def draw_examples(folder: Path) -> list[tuple[str, str]]:
    """Writes the scenes as PNG to a folder; returns their paths and questions."""
    examples = []
    for number, (scene, question) in enumerate(_SCENES, 1):
        path = folder / f"scene_{number}.png"
        draw_scene(make_scene(scene_generator(*scene))).save(path)
        examples.append((str(path), question))
    return examples

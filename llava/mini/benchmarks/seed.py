"""Mini SEED-Bench: questions with four options about images.

SEED-Bench always has four options, so there are no questions about sizes, of which there are two.
"""

from __future__ import annotations

from pathlib import Path

from llava.files import write_json
from llava.mini.benchmarks.drawing import Found, Note, SceneSource, choice, note, write_image
from llava.mini.language import Choice

_DIMENSIONS = {
    name: number
    for number, name in enumerate(
        (
            *("Scene Understanding", "Instance Identity", "Instance Attributes"),
            *("Instance Location", "Instances Counting", "Spatial Relation"),
            *("Instance Interaction", "Visual Reasoning", "Text Understanding"),
            *("Action Recognition", "Action Prediction", "Procedure Understanding"),
        ),
        start=1,
    )
}
_KINDS = {
    "shape": "Instance Identity",
    "color": "Instance Attributes",
    "place": "Instance Location",
    "count": "Instances Counting",
}


def write(folder: Path, source: SceneSource, size: int) -> dict[str, Note]:
    """Writes the benchmark, with that many questions per kind; see write_benchmarks."""
    records: list[dict] = []
    notes: dict[str, Note] = {}
    for turn in range(size):
        for kind, dimension in _KINDS.items():
            found = choice(source, kind, turn)
            record = _record(str(len(records) + 1), found, _DIMENSIONS[dimension])
            write_image(found.scene, folder / "SEED-Bench-image" / record["data_id"])
            records.append(record)
            key = record["question_id"]
            notes[key] = note(found.scene, found.value.fact, found.generator)
    write_json(folder / "SEED-Bench.json", {"questions": records, "question_type": _DIMENSIONS})
    return notes


def _record(question_id: str, found: Found[Choice], dimension: int) -> dict:
    asked = found.value
    return {
        "answer": asked.letter,
        **{f"choice_{letter}": option for letter, option in zip("abcd", asked.options)},
        "data_id": f"mini_{question_id}",
        "data_type": "image",
        "question": asked.fact.text,
        "question_id": question_id,
        "question_type_id": dimension,
    }

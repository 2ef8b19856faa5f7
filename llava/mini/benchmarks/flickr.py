"""Mini Flickr30k: images with five captions each, in Karpathy's file."""

from __future__ import annotations

from pathlib import Path

from llava.eval.benchmarks.flickr import CAPTIONS_PER_IMAGE
from llava.files import write_json
from llava.mini.benchmarks.drawing import Note, SceneSource, write_image
from llava.mini.language import caption
from llava.mini.scene import describe_things


def write(folder: Path, source: SceneSource, size: int) -> dict[str, Note]:
    """Writes the benchmark, of that many images; see write_benchmarks."""
    records, notes = [], {}
    for number in range(size):
        found = source.find(
            lambda scene, generator: [caption(scene, generator) for _ in range(CAPTIONS_PER_IMAGE)]
        )
        name = f"{number + 1}.jpg"
        write_image(found.scene, folder / "flickr30k-images" / name)
        records.append(_record(number, name, found.value))
        true = caption(found.scene, found.generator)
        notes[str(number)] = Note("caption", true, None, describe_things(found.scene))
    write_json(folder / "dataset_flickr30k.json", {"images": records, "dataset": "flickr30k"})
    return notes


def _record(number: int, name: str, captions: list[str]) -> dict:
    ids = [CAPTIONS_PER_IMAGE * number + place for place in range(CAPTIONS_PER_IMAGE)]
    return {
        "sentids": ids,
        "imgid": number,
        "filename": name,
        "split": "test",
        "sentences": [
            {"tokens": text.rstrip(".").split(), "raw": text, "imgid": number, "sentid": i}
            for i, text in zip(ids, captions)
        ],
    }

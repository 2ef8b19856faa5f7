"""The mini world's training data: pictures, captions and conversations in COCO's and LLaVA's files.

Layout: ``images/<number>.jpg``; ``captions.json``, five captions per image as in COCO's annotations
of captions; ``conversations.json`` as in LLaVA's instruction data; ``texts.jsonl``, one line per
image with all its objects (``{"id": 0, "scene": [{"shape", "color", "size", "cell", "x",
"y", "radius", "place", "name"}, ...]}``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from llava.constants import DEFAULT_IMAGE_TOKEN
from llava.files import read_json, read_text
from llava.mini.drawing import draw_scene
from llava.mini.language import caption, conversations
from llava.mini.scene import (
    IMAGE_SIZE,
    Thing,
    describe_things,
    make_scene,
    read_things,
    scene_generator,
)
from llava.train.captions import Conversation, read_conversations

CAPTIONS_PER_IMAGE = 5
JPEG_QUALITY = 95
_AT_ONCE = 100  # images that a process draws before it reports


@dataclass(frozen=True)
class Sample:
    """The texts about one training image.

    Attributes:
        number: of the image.
        captions: CAPTIONS_PER_IMAGE sentences.
        turns: questions and answers.
        things: the objects, as in texts.jsonl.
    """

    number: int
    captions: list[str]
    turns: list[tuple[str, str]]
    things: list[dict]

    @property
    def file_name(self) -> str:
        """The name of the image, relative to its folder."""
        return f"{self.number}.jpg"


def write_training_set(
    folder: Path, seed: int, images: int, processes: int, scale: int = 1
) -> None:
    """Writes the training data; the same for any number of processes.

    Args:
        folder: an existing, empty one.
        seed: of the scenes and of their texts.
        images: number of images.
        processes: number of drawing processes; with 1, this one draws.
        scale: of the scenes; see Scene.
    """
    (folder / "images").mkdir()
    samples = []
    with tqdm(total=images, desc="training images", unit="image") as bar:
        for made in _blocks(folder / "images", seed, images, processes, scale):
            samples += made
            bar.update(len(made))
    _write(folder / "captions.json", _coco_captions(samples, IMAGE_SIZE * scale))
    _write(folder / "conversations.json", [_llava_record(sample) for sample in samples])
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            file.write(json.dumps({"id": sample.number, "scene": sample.things}) + "\n")


def make_sample(folder: Path, seed: int, number: int, scale: int = 1) -> Sample:
    """Draws one training image into a folder and returns its texts."""
    generator = scene_generator(seed, "train", number)
    scene = make_scene(generator, scale)
    sample = Sample(
        number=number,
        captions=[caption(scene, generator) for _ in range(CAPTIONS_PER_IMAGE)],
        turns=conversations(scene, generator),
        things=describe_things(scene),
    )
    draw_scene(scene).save(folder / sample.file_name, quality=JPEG_QUALITY)
    return sample


def _blocks(
    folder: Path, seed: int, images: int, processes: int, scale: int
) -> Iterator[list[Sample]]:
    blocks = [range(first, min(first + _AT_ONCE, images)) for first in range(0, images, _AT_ONCE)]
    work = partial(_make_block, folder, seed, scale)
    if processes == 1:
        yield from map(work, blocks)
        return
    # Spawned processes: a fork of one that has loaded torch inherits its threads' locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, blocks)


def _make_block(folder: Path, seed: int, scale: int, numbers: range) -> list[Sample]:
    return [make_sample(folder, seed, number, scale) for number in numbers]


def _coco_captions(samples: list[Sample], side: int) -> dict:
    size = {"height": side, "width": side}
    texts = [(sample.number, text) for sample in samples for text in sample.captions]
    return {
        "images": [{"id": s.number, "file_name": s.file_name, **size} for s in samples],
        "annotations": [
            {"id": i, "image_id": number, "caption": text} for i, (number, text) in enumerate(texts)
        ],
    }


def _llava_record(sample: Sample) -> dict:
    turns: list[dict] = []
    for question, answer in sample.turns:
        # As in LLaVA's data, the image stands only before the first question.
        question = question if turns else f"{DEFAULT_IMAGE_TOKEN}\n{question}"
        turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": str(sample.number), "image": sample.file_name, "conversations": turns}


def _write(path: Path, value: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file)


@dataclass(frozen=True)
class TrainingSet:
    """The texts of the training data, image by image.

    Attributes:
        images: file names.
        conversations: questions and answers.
        captions: CAPTIONS_PER_IMAGE each.
        scenes: the objects of each.
    """

    images: list[str]
    conversations: list[Conversation]
    captions: list[list[str]]
    scenes: list[list[Thing]]


def read_training_set(folder: Path) -> TrainingSet:
    """Reads the data that write_training_set wrote.

    Raises:
        UserError: a file is missing or not valid.
    """
    conversations = read_conversations(folder / "conversations.json")
    images = [str(conversation.image) for conversation in conversations]
    captions: dict[int, list[str]] = {}
    for annotation in read_json(folder / "captions.json")["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    lines = read_text(folder / "texts.jsonl").splitlines()
    scenes = [read_things(json.loads(line)["scene"]) for line in lines]
    return TrainingSet(images, conversations, list(captions.values()), scenes)

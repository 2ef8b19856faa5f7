"""Texts about images: captions in COCO's format, instructions in LLaVA's, and their questions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.constants import DEFAULT_IMAGE_TOKEN, OPTION_LETTER_SUFFIX, SHORT_ANSWER_SUFFIX
from llava.errors import UserError
from llava.files import read_json, read_text

DEFAULT_QUESTION = "Describe the image."
_COCO = "https://cocodataset.org/#download (captions_train2017.json)"
_LLAVA = "https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K (llava_v1_5_mix665k.json)"


@dataclass(frozen=True)
class CaptionPairs:
    """Images with their captions.

    Attributes:
        images: M files, all different.
        captions: for each, at least one text.
    """

    images: list[Path]
    captions: list[list[str]]


def read_caption_pairs(path: Path, folder: Path) -> CaptionPairs:
    """Reads a captions file; images without captions are left out.

    Args:
        path: JSON with "images" (id, file_name) and "annotations" (image_id, caption).
        folder: where the images lie.

    Raises:
        UserError: the file has another format; an empty caption; a caption of an unlisted image, or
            an image that is not in the folder or has no size.
    """
    content = read_json(path)
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise UserError(f"{path} has no lists images and annotations: get it from {_COCO}")
    names = {}
    for place, image in enumerate(images):
        if not isinstance(image, dict) or "id" not in image or "file_name" not in image:
            raise UserError(f"{path}: image {place + 1} has no id or no file_name")
        names[image["id"]] = image["file_name"]
    captions: dict[str, list[str]] = {}
    for place, annotation in enumerate(annotations):
        name, text = _annotation(annotation, names, f"{path}, annotation {place + 1}")
        captions.setdefault(name, []).append(text)
    if not captions:
        raise UserError(f"{path} holds no captions: get it from {_COCO}")
    files = [folder / name for name in captions]
    for file in files:
        check_image_file(file, str(path))
    return CaptionPairs(files, list(captions.values()))


def check_image_file(file: Path, source: str) -> None:
    """Refuses an image file that is missing or empty.

    Raises:
        UserError: names the file.
    """
    if not file.is_file():
        raise UserError(
            f"{source} names the image {file}, which is not there: check the folder of the images, "
            "or take the image out of the file"
        )
    if file.stat().st_size == 0:
        raise UserError(f"the image {file} that {source} names is empty: fetch it again")


def read_questions(path: Path | None) -> list[str]:
    """Returns the different questions about images in an instruction file, in rising order.

    Answer formats are removed.

    Raises:
        UserError: not an instruction file, or one without images.
    """
    if path is None:
        return [DEFAULT_QUESTION]
    asked = set()
    for entry in read_conversations(path):
        # LLaVA's mix also has chats without an image, which can be longer than a caption model can
        # read.
        for question, _ in entry.pairs if entry.image is not None else ():
            asked.update(tower_questions(question))
    if not asked:
        raise UserError(f"{path} has no question about an image: name LLaVA's instructions")
    return sorted(asked)


def tower_questions(question: str) -> list[str]:
    """Returns the parts of a question that text tower, caption model and selector may read.

    These are its first line and (as in MMBench) all of it; one part if the two are the same.
    """
    for suffix in (OPTION_LETTER_SUFFIX, SHORT_ANSWER_SUFFIX):
        question = question.replace(suffix, "")
    return [question.split("\n", 1)[0], question]


def _annotation(annotation: object, names: dict, where: str) -> tuple[str, str]:
    if not isinstance(annotation, dict) or annotation.get("image_id") not in names:
        raise UserError(f"{where}: its image_id is not among the images of the file")
    text = annotation.get("caption")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: its caption is empty: write one, or take the annotation out")
    return names[annotation["image_id"]], " ".join(text.split())


@dataclass(frozen=True)
class Conversation:
    """Questions and answers about one image, or about none.

    Attributes:
        id: name of the entry.
        image: path below the image folder; None for text alone.
        pairs: question (without the image's placeholder) and answer, in order.
    """

    id: str
    image: str | None
    pairs: list[tuple[str, str]]


def read_conversations(path: Path) -> list[Conversation]:
    """Reads all entries of an instruction file.

    Raises:
        UserError: the file has another format, or a question lacks an answer; names the entry.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): get it again from {_LLAVA}") from error
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} is not a list of conversations, as LLaVA has it: see {_LLAVA}")
    return [_conversation(entry, f"{path}, entry {i + 1}") for i, entry in enumerate(content)]


def _conversation(entry: Any, where: str) -> Conversation:
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where} has no conversations: take it out, or see {_LLAVA}")
    where = f"{where} ({entry.get('id', 'without id')})"
    texts = []
    for place, turn in enumerate(turns):
        speaker = "human" if place % 2 == 0 else "gpt"
        text = turn.get("value") if isinstance(turn, dict) else None
        if not isinstance(text, str) or turn.get("from") != speaker:
            raise UserError(f"{where}: turn {place + 1} is not a text from {speaker}")
        text = text.replace(DEFAULT_IMAGE_TOKEN, "").strip()
        if not text:
            raise UserError(f"{where}: turn {place + 1} is empty: fill it, or take the entry out")
        texts.append(text)
    if len(texts) % 2:
        raise UserError(f"{where}: the last question has no answer: add it, or take the entry out")
    image = entry.get("image")
    pairs = list(zip(texts[::2], texts[1::2]))
    return Conversation(str(entry.get("id", "")), None if image is None else str(image), pairs)

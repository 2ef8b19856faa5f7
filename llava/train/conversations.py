"""Instruction data in LLaVA's format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.constants import DEFAULT_IMAGE_TOKEN
from llava.errors import UserError
from llava.files import read_text

_HOME = "https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K (llava_v1_5_mix665k.json)"


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
        raise UserError(f"{path} is not JSON ({error}): get it again from {_HOME}") from error
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} is not a list of conversations, as LLaVA has it: see {_HOME}")
    return [_conversation(entry, f"{path}, entry {i + 1}") for i, entry in enumerate(content)]


def _conversation(entry: Any, where: str) -> Conversation:
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where} has no conversations: take it out, or see {_HOME}")
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

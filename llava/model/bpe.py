"""Byte-pair tokenizers from a checkpoint folder, with an error that helps."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from llava.errors import UserError

BPE_FILES = ("tokenizer.json", "vocab.json")

Tokenizer = TypeVar("Tokenizer", bound=PreTrainedTokenizerBase)


def read_bpe(kind: type[Tokenizer], folder: Path) -> Tokenizer:
    """The tokenizer of a folder: tokenizer.json, or vocab.json with merges.txt.

    Raises:
        UserError: files are missing, empty or damaged.
    """
    merges = folder / "merges.txt"
    whole = (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and merges.is_file() and merges.stat().st_size > 0
    )
    if not whole:
        raise UserError(
            f"there is no tokenizer in {folder} (tokenizer.json, or vocab.json with merges.txt): "
            "download it there from the checkpoint's publisher"
        )
    try:
        return kind.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises bare exceptions
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"the tokenizer files in {folder} are damaged ({reason}): download them again"
        ) from error

"""Byte-pair tokenizers from a checkpoint folder, with an error that helps."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from llava.errors import UserError, shown

_PROBE = "A star."
BPE_FILES = ("tokenizer.json", "vocab.json")

Tokenizer = TypeVar("Tokenizer", bound=PreTrainedTokenizerBase)


def read_bpe(kind: type[Tokenizer], folder: Path) -> Tokenizer:
    """The tokenizer of a folder: tokenizer.json, or vocab.json with merges.txt.

    Raises:
        UserError: files are missing, empty or damaged, or the ids of the words are not 0, 1, 2 and
            so on, one for each.
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
        tokenizer = kind.from_pretrained(folder)
        ids = sorted(tokenizer.get_vocab().values())
        if ids != list(range(len(ids))):
            raise ValueError("its words have not the ids 0, 1, 2 and so on, one for each")
        if None in tokenizer.encode(_PROBE) or not tokenizer.encode(_PROBE):
            raise ValueError("it has no ids for common letters")
    except Exception as error:  # the tokenizers library raises bare exceptions
        reason = shown(str(error).strip().split("\n")[0])
        raise UserError(
            f"the tokenizer files in {folder} are damaged ({reason}): download them again"
        ) from error
    return tokenizer

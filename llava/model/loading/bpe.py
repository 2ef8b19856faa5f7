"""Byte-pair tokenizers from a checkpoint folder, with a helpful error."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from llava.errors import UserError, quoted, shown
from llava.files import read_json, read_text

_PROBE = "A star."
BPE_FILES = ("tokenizer.json", "vocab.json")

Tokenizer = TypeVar("Tokenizer", bound=PreTrainedTokenizerBase)


def read_bpe(kind: type[Tokenizer], folder: Path) -> Tokenizer:
    """Reads the tokenizer of a folder: tokenizer.json, or vocab.json with merges.txt.

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
        if merges.is_file() and (folder / "vocab.json").is_file():
            _check_merges(read_json(folder / "vocab.json"), read_text(merges))
        tokenizer = kind.from_pretrained(folder)
        ids = sorted(tokenizer.get_vocab().values())
        if ids != list(range(len(ids))):
            raise ValueError("its words have not the ids 0, 1, 2 and so on, one for each")
        probe = tokenizer.encode(_PROBE)
        if None in probe or not probe:
            raise ValueError("it has no ids for common letters")
    except BaseException as error:  # the tokenizers library raises bare exceptions, and panics
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = shown(str(error).strip().split("\n")[0])
        raise UserError(
            f"the tokenizer files in {folder} are damaged ({reason}): download them again"
        ) from error
    return tokenizer


def _check_merges(words: dict, merges: str) -> None:
    """Refuses merges whose result the vocabulary lacks: the tokenizers library panics on them.

    Raises:
        ValueError: names the first of them.
    """
    for line in merges.split("\n"):
        parts = line.split()
        if len(parts) == 2 and not line.startswith("#version") and "".join(parts) not in words:
            raise ValueError(f"merges.txt makes {quoted(''.join(parts))}, which is no word")


def check_vocabulary(tokenizer: Sized, rows: int, folder: Path) -> None:
    """Refuses a tokenizer whose ids go beyond the embedding table.

    Raises:
        UserError: the two are not of the same model.
    """
    if len(tokenizer) > rows:
        raise UserError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens and the model {rows}: they "
            "are not of the same model; fetch the folder again"
        )

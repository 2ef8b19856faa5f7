"""Tokenizers for models without a vocabulary: pieces about as long as those of the real ones.

Only the numbers of tokens matter here, so that a prompt costs as much as with the real weights.
"""

from __future__ import annotations

import re
import zlib

_PIECE = re.compile(r"\n|\w{1,9}|[^\w\s]")  # LLaVA-1.5's system prompt: 34, really 35
# The words of captions: one token each for GPT-2, LongCLIP and Llama.
_WORDS = (
    "a man in the red shirt is on street with white dog and black car near tree under blue sky "
    "while two people sit at table by water"
).split()


def _ids(text: str, size: int) -> list[int]:
    """Returns an id below ``size`` for each piece, the same at every place."""
    return [zlib.crc32(piece.encode()) % size for piece in _PIECE.findall(text)]


class _Words:
    """A stand-in for a tokenizer.

    Args:
        vocab_size: rows of the model's embedding table.
    """

    def __init__(self, vocab_size: int) -> None:
        self._size = vocab_size

    def decode(self, ids: list[int], clean_up_tokenization_spaces: bool = False) -> str:
        """Returns one word per id."""
        return " ".join(_WORDS[i % len(_WORDS)] for i in ids)


class LlamaWords(_Words):
    """A stand-in for LLaVA's tokenizer; the last few ids are never used."""

    unk_token_id, bos_token_id, eos_token_id = 0, 1, 2

    def encode(self, text: str) -> list[int]:
        """Returns ids, the begin-of-text first."""
        return [self.bos_token_id, *(3 + i for i in _ids(text, self._size - 11))]


class GptWords(_Words):
    """A stand-in for GPT-2's tokenizer."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Returns ids."""
        return _ids(text, self._size)


class ClipWords(_Words):
    """A stand-in for CLIP's tokenizer."""

    def encode(self, text: str, max_length: int) -> list[int]:
        """Returns ids between begin- and end-of-text."""
        ids = _ids(text, self._size - 2)[: max_length - 2]
        return [self._size - 2, *ids, self._size - 1]

"""The protocol of the tokenizers of LLMs."""

from __future__ import annotations

from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids and back.

    Attributes:
        eos_token_id: ends an answer.
    """

    eos_token_id: int

    def __len__(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, the begin-of-text id first if the LLM has one."""

    def encode_more(self, text: str) -> list[int]:
        """Returns the ids of a text that follows others, without a begin-of-text id."""

    def decode(self, ids: list[int]) -> str:
        """Returns the text of ids; special tokens and ids beyond the vocabulary are left out."""

"""What a run hands on from one batch to the next."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from cachetools import LRUCache

# Bytes that a run may keep: about 250 encoded images of LLaVA-1.5 in float32, or the keys and
# values of two or three full images of LLaVA-1.5-7B.
MEMORY_LIMIT = 1 << 30


class Kept(Protocol):
    """Anything that says how many bytes it takes, as VisualTokens and Prefix do."""

    @property
    def nbytes(self) -> int: ...


class Memory:
    """Keeps encoded images, and the starts of prompts that the LLM has read, for later batches.

    All of it was made by one model as it was, so a memory belongs to one run, in which weights and
    settings stay. A model never keeps one itself: what it answers cannot depend on the weights that
    it had before, nor on what it was asked before. What was not used for the longest time goes
    first.

    Args:
        limit: bytes of all that is kept together.
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self.limit = limit
        self._values: LRUCache = LRUCache(limit, getsizeof=lambda value: value.nbytes)

    def find(self, key: Hashable) -> Kept | None:
        """Returns what is kept under a key, or None."""
        return self._values.get(key)

    def keep(self, key: Hashable, value: Kept) -> None:
        """Keeps a value, unless it alone is larger than the limit."""
        if value.nbytes <= self.limit:
            self._values[key] = value

"""The results that a run keeps from one batch to the next."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

from cachetools import LRUCache

# Bytes that a run may keep: about 250 encoded images of LLaVA-1.5 in float32, or the keys and
# values of two or three full images of LLaVA-1.5-7B.
MEMORY_LIMIT = 1 << 30


class Kept(Protocol):
    """An object that states its size in bytes, such as VisualTokens and KVPrefix."""

    @property
    def nbytes(self) -> int:
        """The size in bytes."""


class Memory:
    """Keeps encoded images, and prompt prefixes that the LLM has read, for later batches.

    All values come from one unchanged model, so a memory belongs to one run with fixed weights and
    settings. A model never keeps one itself, so that its answers depend neither on former weights
    nor on earlier questions. The value that was unused for the longest time is dropped first.

    Args:
        limit: the total bytes of all kept values.
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self.limit = limit
        self._values: LRUCache = LRUCache(limit, getsizeof=lambda value: value.nbytes)

    def find(self, key: Hashable) -> Any:
        """Returns the value under a key, or None."""
        return self._values.get(key)

    def keep(self, key: Hashable, value: Kept) -> None:
        """Keeps a value, unless it alone is larger than the limit."""
        if value.nbytes <= self.limit:
            self._values[key] = value

"""The cost of a transformer: operations, parameters and bytes as formulas of its shape."""

from __future__ import annotations

from dataclasses import dataclass

BF16, FLOAT32 = 2, 4  # bytes


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer.

    Attributes:
        width: the width of a token.
        layers: number of layers.
        mlp: inner width of the feed-forward part.
        vocabulary: rows of the embedding table.
        positions: rows of the position table.
        gated: whether it has Llama's feed-forward part of three matrices and its own output table.
    """

    width: int
    layers: int
    mlp: int
    vocabulary: int = 0
    positions: int = 0
    gated: bool = False

    @property
    def matrices(self) -> int:
        """The number of parameters in the layers; biases and norms, below 0.2%, are left out."""
        feed_forward = (3 if self.gated else 2) * self.width * self.mlp
        return self.layers * (4 * self.width**2 + feed_forward)

    @property
    def parameters(self) -> int:
        """The number of all parameters, tables included."""
        tables = 2 if self.gated else 1
        return self.matrices + (tables * self.vocabulary + self.positions) * self.width

    def operations(self, tokens: float, predicted: float = 0, past: float = 0) -> float:
        """Returns the operations of a forward pass over one sequence; a multiply-add counts as two.

        Args:
            tokens: of the sequence; each is assumed to attend to all of them.
            predicted: tokens whose successors are predicted.
            past: tokens before them whose keys and values are in the cache.
        """
        attention = 4 * tokens * (tokens + past) * self.width * self.layers
        return 2 * self.matrices * tokens + attention + 2 * predicted * self.vocabulary * self.width

    def cache_bytes(self, tokens: int, size: int = BF16) -> int:
        """Returns the bytes of a sequence's keys and values, for numbers of the given size."""
        return 2 * self.layers * self.width * tokens * size

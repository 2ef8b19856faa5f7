"""What a transformer takes: operations, parameters and bytes as formulas of its shape."""

from __future__ import annotations

from dataclasses import dataclass

BF16, FLOAT32 = 2, 4  # bytes


@dataclass(frozen=True)
class Shape:
    """A transformer.

    Attributes:
        width: of a token.
        layers: how many.
        mlp: inner width of the feed-forward part.
        vocabulary: rows of the embedding table.
        positions: rows of the position table.
        gated: Llama's feed-forward part of three matrices, and an output table of its own.
    """

    width: int
    layers: int
    mlp: int
    vocabulary: int = 0
    positions: int = 0
    gated: bool = False

    @property
    def matrices(self) -> int:
        """Parameters of the layers; biases and norms, below 0.2%, are left out."""
        feed_forward = (3 if self.gated else 2) * self.width * self.mlp
        return self.layers * (4 * self.width**2 + feed_forward)

    @property
    def parameters(self) -> int:
        """All of them, tables included."""
        tables = 2 if self.gated else 1
        return self.matrices + (tables * self.vocabulary + self.positions) * self.width

    def operations(self, tokens: float, predicted: float = 0, past: float = 0) -> float:
        """Of a forward pass over one sequence; a multiply-add is two.

        Args:
            tokens: of the sequence; each is taken to see all of them.
            predicted: tokens whose successors are predicted.
            past: tokens before them whose keys and values are known.
        """
        attention = 4 * tokens * (tokens + past) * self.width * self.layers
        return 2 * self.matrices * tokens + attention + 2 * predicted * self.vocabulary * self.width

    def cache_bytes(self, tokens: int, size: int = BF16) -> int:
        """Keys and values of a sequence, in numbers of so many bytes."""
        return 2 * self.layers * self.width * tokens * size

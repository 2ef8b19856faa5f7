"""The layers of the relation model (arXiv 2201.11460), and the positions of patches.

Modules have the names of the keys of the weight file. A decoder layer does not use its norms in the
order of their numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llava.errors import UserError

HEADS = 8  # of every attention; no weight of the file determines it
BRANCHES = ("entity", "sub", "obj")
_ATTENTIONS = (
    *("self_attn_entity", "cross_attn_entity", "self_attn_so"),
    *("cross_attn_sub", "cross_sub_entity", "cross_attn_obj", "cross_obj_entity"),
)
_NORMS = (*(f"norm{i}_{branch}" for branch in BRANCHES for i in (1, 2, 3)), "norm2_so")


class DecoderState(NamedTuple):
    """The queries' contents after a decoder layer.

    Attributes:
        entities: (B, Ne, d).
        subjects, objects: (B, Nt, d).
        sub_maps, obj_maps: (B, Nt, N), attention over patches, the mean over heads.
    """

    entities: Tensor
    subjects: Tensor
    objects: Tensor
    sub_maps: Tensor
    obj_maps: Tensor


class EncoderLayer(nn.Module):
    """Lets the patches read each other and the question, which stays unchanged."""

    def __init__(self, width: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = _attention(width)
        self.linear1, self.linear2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, question: Tensor) -> Tensor:
        """Returns the patches (B, N, d) after this layer.

        Args:
            x: (B, N, d), the patches.
            positions: (N, d), added to queries and keys of the patches only.
            question: (B, 1, d), one more key and value.
        """
        queries = x + positions
        keys, values = torch.cat([queries, question], 1), torch.cat([x, question], 1)
        x = self.norm1(x + self.self_attn(queries, keys, values, need_weights=False)[0])
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class DecoderLayer(nn.Module):
    """Updates entities, then subjects and objects, which read patches and entities."""

    def __init__(self, width: int, feedforward: int) -> None:
        super().__init__()
        for name in _ATTENTIONS:
            self.add_module(name, _attention(width))
        for name in _NORMS:
            self.add_module(name, nn.LayerNorm(width))
        for branch in BRANCHES:
            self.add_module(f"linear1_{branch}", nn.Linear(width, feedforward))
            self.add_module(f"linear2_{branch}", nn.Linear(feedforward, width))

    def forward(
        self,
        state: tuple[Tensor, Tensor, Tensor],
        memory: Tensor,
        positions: Tensor,
        places: tuple[Tensor, Tensor, Tensor],
    ) -> DecoderState:
        """Returns the state after this layer.

        Args:
            state: entities (B, Ne, d), subjects and objects (B, Nt, d).
            memory: (B, N, d), the encoded patches.
            positions: (N, d), of the patches.
            places: positions of the entity queries (Ne, d) and of the triplet queries (Nt, d), and
                the marks (2, d) of subjects and of objects.
        """
        entities, subjects, objects = state
        entity_places, triplet_places, marks = places
        keys = memory + positions
        queries = entities + entity_places
        entities = self._add("self_attn_entity", "norm2_entity", entities, queries, queries)
        queries = entities + entity_places
        entities = self._add("cross_attn_entity", "norm1_entity", entities, queries, keys, memory)
        entities = self._feed("entity", entities)
        both = torch.cat([subjects, objects], 1)
        queries = both + (marks[:, None] + triplet_places).flatten(0, 1)
        both = self._add("self_attn_so", "norm2_so", both, queries, queries)
        subjects, objects = both.chunk(2, dim=1)
        subjects, sub_maps = self._look("sub", subjects, triplet_places, keys, memory, entities)
        objects, obj_maps = self._look("obj", objects, triplet_places, keys, memory, entities)
        return DecoderState(entities, subjects, objects, sub_maps, obj_maps)

    def _look(
        self,
        branch: str,
        x: Tensor,
        places: Tensor,
        keys: Tensor,
        memory: Tensor,
        entities: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Returns subjects or objects (B, Nt, d) after patches and entities, and their maps."""
        attend = getattr(self, f"cross_attn_{branch}")
        found, maps = attend(x + places, keys, memory, need_weights=True)
        x = getattr(self, f"norm1_{branch}")(x + found)
        name = f"cross_{branch}_entity"
        x = self._add(name, f"norm2_{branch}", x, x + places, entities, entities)
        return self._feed(branch, x), maps

    def _add(
        self,
        attention: str,
        norm: str,
        x: Tensor,
        queries: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
    ) -> Tensor:
        """Returns norm(x + attention); without values, those are x itself."""
        values = x if values is None else values
        found, _ = getattr(self, attention)(queries, keys, values, need_weights=False)
        return getattr(self, norm)(x + found)

    def _feed(self, branch: str, x: Tensor) -> Tensor:
        """Returns norm3(x + feed-forward) of a branch."""
        inner = getattr(self, f"linear1_{branch}")(x).relu()
        return getattr(self, f"norm3_{branch}")(x + getattr(self, f"linear2_{branch}")(inner))


class Mlp(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        widths: of the input, and of each layer's output.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., last width) from (..., first width)."""
        *inner, last = self.layers
        for layer in inner:
            x = layer(x).relu()
        return last(x)


def grid_positions(num_patches: int, width: int, device: torch.device | None = None) -> Tensor:
    """Returns the positions (N, d) float32 of a square grid's patches, row by row.

    Half of the features are sines and cosines of the row, the others of the column; both count from
    1 and end at a full turn (arXiv 2005.12872).

    Raises:
        UserError: the N patches are not a square grid.
    """
    side = math.isqrt(num_patches)
    if side * side != num_patches:
        raise UserError(f"the relation model reads a square grid, and {num_patches} is no square")
    half = width // 2
    feature = torch.arange(half, dtype=torch.float32, device=device)
    divisors = 10000 ** (2 * (feature // 2) / half)
    turns = (
        torch.arange(1, side + 1, dtype=torch.float32, device=device) / (side + 1e-6) * 2 * math.pi
    )
    angles = turns[:, None] / divisors
    waves = torch.where(feature % 2 == 0, angles.sin(), angles.cos())
    rows = waves[:, None].expand(-1, side, -1)
    columns = waves[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _attention(width: int) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(width, HEADS, batch_first=True)

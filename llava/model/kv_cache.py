"""Sessions in which a decoder (Llama, GPT-2) reads a batch of sequences after cached prefixes.

The common beginning of prompts (the system prompt, all tokens of an image) is read once, and its
keys and values are kept as a KVPrefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from llava.mm_utils import send

LayerStates = tuple[Tensor, Tensor]  # keys and values, each (H, L, d)


@dataclass(frozen=True, eq=False)
class KVPrefix:
    """Keys and values of the first L positions of a prompt.

    Attributes:
        layers: of each layer of the LLM; empty where L is 0.
    """

    layers: tuple[LayerStates, ...] = ()

    @property
    def length(self) -> int:
        """The number of positions L."""
        return self.layers[0][0].shape[1] if self.layers else 0

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it takes."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


class _SelectableLayer(DynamicLayer):
    """Keys and values (B, H, L, d) whose rows can be selected.

    The rows are copied together with the next piece: once, while reordering first and growing
    afterwards would copy everything twice.
    """

    keys: Tensor
    values: Tensor
    _rows: Tensor | None = None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Continues with rows (R,) int64; one may be taken several times."""
        self.settle()
        if self.get_seq_length() > 0:
            self._rows = indices

    def settle(self) -> None:
        """Copies the rows now, without a next piece."""
        if self._rows is not None:
            self.keys, self.values = self.keys[self._rows], self.values[self._rows]
            self._rows = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> LayerStates:
        """Adds a piece (R, H, n, d); returns all keys and values."""
        if self._rows is None:
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys = _grown(self.keys, self._rows, key_states)
        self.values = _grown(self.values, self._rows, value_states)
        self._rows = None
        return self.keys, self.values


def _grown(states: Tensor, rows: Tensor, piece: Tensor) -> Tensor:
    """Returns rows of states (B, H, L, d), followed by a piece (R, H, n, d)."""
    length = states.shape[2]
    grown = states.new_empty(*piece.shape[:2], length + piece.shape[2], piece.shape[3])
    torch.index_select(states, 0, rows, out=grown[:, :, :length])
    grown[:, :, length:] = piece
    return grown


class DecodeSession:
    """A batch of B sequences that a decoder reads piece by piece.

    Pieces are padded on the left, and so are prefixes: padding lies between them and is masked.

    Attributes:
        cache: the keys and values.
        filled: number of its columns in use.

    Args:
        forward: transformers' causal LM.
        config: of the LM.
        prefixes: B of them, one for the beginning of each sequence.
        device: the device of the embeddings.
    """

    def __init__(
        self,
        forward: Callable,
        config: PreTrainedConfig,
        prefixes: Sequence[KVPrefix],
        device: torch.device,
    ) -> None:
        self._forward = forward
        self.cache = Cache(layers=[_SelectableLayer() for _ in range(config.num_hidden_layers)])
        for index, states in enumerate(stacked_prefixes(prefixes)):
            self.cache.update(*states, index)
        self.filled = max(prefix.length for prefix in prefixes)
        lengths = send([prefix.length for prefix in prefixes], device)
        columns = torch.arange(self.filled, device=device)
        self._valid = columns >= self.filled - lengths[:, None]  # (B, filled)
        self._following = lengths  # (B,), the position of each sequence's next token

    def __len__(self) -> int:
        return len(self._following)

    @property
    def device(self) -> torch.device:
        """The device of the embeddings."""
        return self._following.device

    def forward(self, embeds: Tensor, mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Reads the next piece of every sequence.

        Args:
            embeds: (B, L, D), padded on the left.
            mask: (B, L), 1 where there is input, 0 for padding.
            position_ids: (3, B, L) int64, positions of M-RoPE, of which the last is a text's; None
                continues after the last position.

        Returns:
            (B, V) float32, the logits of the next token.
        """
        mask = mask.bool()
        positions, self._following = positions_of(self._following, mask, position_ids)
        self._valid = torch.cat([self._valid, mask], dim=1)
        out = self._forward(
            inputs_embeds=embeds,
            # transformers uses a four-dimensional mask without inspecting it: on a GPU each
            # inspection would wait for all earlier work.
            attention_mask=self._attention_mask(embeds.shape[1]),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.filled += embeds.shape[1]
        return out.logits[:, -1].float()

    def select(self, rows: Tensor) -> None:
        """Continues with some of the sequences, (R,) int64; one may be taken several times."""
        self.cache.batch_select_indices(rows)
        self._valid, self._following = self._valid[rows], self._following[rows]

    def prefix(self, row: int, columns: slice, before: KVPrefix) -> KVPrefix:
        """Returns what was read in some columns of a row, as a prefix for other prompts.

        Args:
            row: of the batch.
            columns: columns of the cache, without padding.
            before: the row's own prefix, which precedes them.
        """
        for each in self.cache.layers:
            each.settle()
        layers = [(each.keys, each.values) for each in self.cache.layers]
        return cut_prefix(layers, row, columns, before)

    def _attention_mask(self, num_new: int) -> Tensor:
        """Returns the mask (B, 1, num_new, columns of the cache) bool: causal, padding excluded."""
        columns = torch.arange(self.filled, self.filled + num_new, device=self.device)
        return causal_mask(self._valid, columns)


def positions_of(
    following: Tensor, mask: Tensor, position_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns the positions of a piece, and those of the next tokens, (B,) int64.

    Args:
        following: (B,) int64, the positions at which the piece begins.
        mask: (B, L) bool, False for padding.
        position_ids: (3, B, L) int64, positions of M-RoPE that are given; None counts.
    """
    if position_ids is not None:
        return position_ids, position_ids[0, :, -1] + 1
    positions = (following[:, None] + mask.cumsum(dim=1) - 1).clamp(min=0)
    return positions, following + mask.sum(dim=1)


def causal_mask(valid: Tensor, columns: Tensor) -> Tensor:
    """Returns which columns of a cache a piece attends to, (B, 1, n, M) bool.

    Args:
        valid: (B, M) bool, the columns that are not padding.
        columns: (n,) int64, those of the piece.
    """
    place, new = torch.arange(valid.shape[1], device=valid.device), columns[:, None]
    # Padding attends to itself: a row of the mask that is all False would give NaN.
    return (valid[:, None, None] & (new >= place)) | (new == place)


def cut_prefix(
    layers: Sequence[LayerStates], row: int, columns: slice, before: KVPrefix
) -> KVPrefix:
    """Returns some columns of a row of keys and values (B, H, L, d), after another prefix."""
    own = [(keys[row, :, columns], values[row, :, columns]) for keys, values in layers]
    if not before.layers:
        return KVPrefix(tuple((keys.clone(), values.clone()) for keys, values in own))
    pairs = zip(before.layers, own)
    return KVPrefix(
        tuple(
            (torch.cat([keys, new_keys], dim=1), torch.cat([values, new_values], dim=1))
            for (keys, values), (new_keys, new_values) in pairs
        )
    )


def stacked_prefixes(prefixes: Sequence[KVPrefix]) -> Iterator[LayerStates]:
    """Yields keys and values (B, H, L, d) of each layer, the prefixes' ends aligned."""
    first, longest = prefixes[0], max(prefix.length for prefix in prefixes)
    for index, (keys, values) in enumerate(first.layers):
        if all(prefix is first for prefix in prefixes):
            size = (len(prefixes), -1, -1, -1)
            yield keys.expand(size), values.expand(size)
            continue
        rows = [
            [F.pad(state, (0, 0, longest - prefix.length, 0)) for state in prefix.layers[index]]
            for prefix in prefixes
        ]
        stacked_keys, stacked_values = (torch.stack(column) for column in zip(*rows))
        yield stacked_keys, stacked_values

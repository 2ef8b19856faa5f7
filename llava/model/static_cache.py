"""Decoders with a KV cache of fixed size, so that every forward pass can become a CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from cachetools import LRUCache
from torch import Tensor
from transformers import Cache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import StaticLayer

from llava.mm_utils import round_up, send
from llava.model.cuda import CudaGraphs, Tensors
from llava.model.kv_cache import (
    KVPrefix,
    LayerStates,
    causal_mask,
    cut_prefix,
    positions_of,
    stacked_prefixes,
)

COLUMN_STEP = 64  # caches have a multiple of this number of columns, for fewer graphs
# Bytes of all caches of a decoder, and the share of a GPU's memory that they may take. A batch that
# needs more is read with a cache that grows: its kernels are so large that starting them takes no
# time. A position of LLaVA-1.5-7B takes 0.5 MB.
MAX_BYTES, MAX_SHARE = 4 << 30, 1 / 16


class StaticSessions:
    """The sessions of a decoder, one for each number of sequences and columns.

    Args:
        lm: transformers' causal LM, on one device.
        forward: the LM, or what it was compiled to.
    """

    def __init__(self, lm: PreTrainedModel, forward: Callable | None = None) -> None:
        self._lm = lm
        self._forward = lm if forward is None else forward
        limit = _room(lm.get_input_embeddings().weight.device)
        self._sessions: LRUCache = LRUCache(limit, getsizeof=lambda session: session.nbytes)

    def begin(
        self, prefixes: Sequence[KVPrefix], num_new: int, device: torch.device
    ) -> StaticSession | None:
        """Returns a session after prefixes, with room for num_new positions.

        It is valid until the next session of its shape begins; None if it would take too much
        memory.
        """
        columns = max(prefix.length for prefix in prefixes) + num_new
        shape = cache_shape(self._lm.config, len(prefixes), round_up(columns, COLUMN_STEP))
        table = self._lm.get_input_embeddings().weight
        if math.prod(shape) * table.itemsize > self._sessions.maxsize:
            return None
        # Graphs read the weights at their addresses at the time of recording.
        kind = (shape, device, table.dtype, table.data_ptr())
        if kind not in self._sessions:
            states = torch.zeros(shape, dtype=table.dtype, device=device)
            self._sessions[kind] = StaticSession(self._forward, states)
        session = self._sessions[kind]
        session.begin(prefixes)
        return session


def _room(device: torch.device) -> int:
    """Returns the bytes that the caches of a decoder on a device may take."""
    if device.type != "cuda":
        return MAX_BYTES
    whole = torch.cuda.get_device_properties(device).total_memory
    return min(MAX_BYTES, int(whole * MAX_SHARE))


def cache_shape(config: PreTrainedConfig, num_rows: int, num_columns: int) -> tuple[int, ...]:
    """Returns the shape (layers, 2, B, H, L, d) of all keys and values of a decoder."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, 2, num_rows, heads, num_columns, width


class StaticSession:
    """A batch of B sequences that a decoder reads piece by piece; see DecodeSession.

    Everything that changes from piece to piece is changed in place.

    Attributes:
        filled: number of the cache's columns in use.

    Args:
        forward: transformers' causal LM, or what it was compiled to.
        states: (layers, 2, B, H, room, d), memory for keys and values.
    """

    def __init__(self, forward: Callable, states: Tensor) -> None:
        self._forward = forward
        self._states = states
        self._layers = [_Layer(*each) for each in states]
        self._cache = Cache(layers=self._layers)
        _, _, num_rows, _, room, _ = states.shape
        self._valid = torch.zeros(num_rows, room, dtype=torch.bool, device=states.device)
        self._following = torch.zeros(num_rows, dtype=torch.long, device=states.device)
        self._column = torch.zeros((), dtype=torch.long, device=states.device)
        self._common: KVPrefix | None = None  # the prefix in the first columns of all rows
        self._graphs: dict[Hashable, CudaGraphs] = {}
        self.filled = 0

    def __len__(self) -> int:
        return len(self._following)

    @property
    def nbytes(self) -> int:
        """The bytes of its keys and values."""
        return self._states.nbytes

    @property
    def device(self) -> torch.device:
        """The device of the embeddings."""
        return self._following.device

    def begin(self, prefixes: Sequence[KVPrefix]) -> None:
        """Forgets what was read, and continues after B prefixes, their ends aligned."""
        longest = max(prefix.length for prefix in prefixes)
        common = prefixes[0] if all(one is prefixes[0] for one in prefixes) else None
        if common is None or common is not self._common:
            for own, states in zip(self._states, stacked_prefixes(prefixes)):
                for part, prefix in zip(own, states):
                    part[:, :, :longest] = prefix
        self._common = common
        self._states[..., longest:, :].zero_()  # a masked NaN would still give NaN
        lengths = send([prefix.length for prefix in prefixes], self.device)
        self._following.copy_(lengths)
        place = torch.arange(self._valid.shape[1], device=self.device)
        self._valid.copy_((place >= longest - lengths[:, None]) & (place < longest))
        self._column.fill_(longest)
        self.filled = longest

    def repeat(self, other: StaticSession, times: int) -> None:
        """Continues after the sequences of another session, each of them several times.

        Args:
            other: of B / times sequences.
            times: copies of each, side by side.
        """
        n = other.filled
        self._states[..., :n, :] = other._states[..., :n, :].repeat_interleave(times, dim=2)
        self._valid[:, :n] = other._valid[:, :n].repeat_interleave(times, dim=0)
        self._following.copy_(other._following.repeat_interleave(times))
        self._column.fill_(n)
        self.filled = n

    def forward(self, embeds: Tensor, mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Reads the next piece of every sequence; see DecodeSession.forward."""
        if position_ids is None:
            logits = self.graphs("forward", self.read)(embeds, mask.bool())
        else:
            read_placed = self.graphs("placed", self._read_placed)
            logits = read_placed(embeds, mask.bool(), position_ids)
        self.filled += embeds.shape[1]
        return logits

    def graphs(self, name: Hashable, function: Callable[..., Tensors]) -> CudaGraphs:
        """Returns a function on this session as CUDA graphs, which live as long as its cache."""
        if name not in self._graphs:
            self._graphs[name] = CudaGraphs(function)
        return self._graphs[name]

    def _read_placed(self, embeds: Tensor, mask: Tensor, position_ids: Tensor) -> Tensor:
        return self.read(embeds, mask, position_ids=position_ids)

    def read(
        self,
        embeds: Tensor,
        mask: Tensor,
        rows: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Does the same as forward, inside a function that becomes a graph.

        Args:
            embeds: (B, L, D), padded on the left.
            mask: (B, L) bool.
            rows: (B,) int64, the sequences that are continued; None continues each.
            position_ids: see DecodeSession.forward.
        """
        if rows is not None:
            self._valid.copy_(self._valid[rows])
            self._following.copy_(self._following[rows])
            self._states.copy_(self._states[:, :, rows])
        columns = self._column + torch.arange(embeds.shape[1], device=self.device)
        positions, following = positions_of(self._following, mask, position_ids)
        self._valid.index_copy_(1, columns, mask)
        for layer in self._layers:
            layer.columns = columns
        out = self._forward(
            inputs_embeds=embeds,
            attention_mask=self._attention_mask(columns),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._following.copy_(following)
        self._column.add_(embeds.shape[1])
        return out.logits[:, -1].float()

    def prefix(self, row: int, columns: slice, before: KVPrefix) -> KVPrefix:
        """Returns what was read in some columns of a row; see DecodeSession.prefix."""
        return cut_prefix(list(self._states), row, columns, before)

    def _attention_mask(self, columns: Tensor) -> Tensor:
        """Returns the mask (B, 1, L, room) to add to the attention: causal, padding excluded.

        It has the dtype of the attention, so that the layers need not convert it.
        """
        seen = causal_mask(self._valid, columns)
        zeros = torch.zeros(seen.shape, dtype=self._states.dtype, device=self.device)
        return zeros.masked_fill(~seen, -torch.inf)


class _Layer(StaticLayer):
    """Keys and values (B, H, room, d) of one layer, written at positions that a tensor gives.

    Attributes:
        columns: (L,) int64, of the next piece.
    """

    columns: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> LayerStates:
        """Writes a piece (B, H, L, d); returns all keys and values."""
        self.keys.index_copy_(2, self.columns, key_states)
        self.values.index_copy_(2, self.columns, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Returns 0: positions and masks are given with each piece."""
        return 0

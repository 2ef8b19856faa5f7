"""Decoders with a KV cache of fixed size, so that every forward pass can become a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from cachetools import LRUCache
from torch import Tensor
from transformers import Cache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import StaticLayer

from llava.mm_utils import round_up, send
from llava.model.cuda import CudaGraphs, Tensors
from llava.model.kv_cache import KVPrefix, LayerStates, cut_prefix, stacked_prefixes

COLUMN_STEP = 64  # caches have a multiple of so many columns: fewer kinds of graphs
# Bytes of all caches of a decoder. A batch that needs more is read with a cache that grows: its
# kernels are so large that starting them takes no time. LLaVA-1.5-7B takes 0.5 MB for each position.
MAX_BYTES = 4 << 30


class StaticSessions:
    """The sessions of a decoder, one for each number of sequences and columns.

    Args:
        lm: transformers' causal LM, on one device.
        forward: the LM, or what it was compiled to.
    """

    def __init__(self, lm: PreTrainedModel, forward: Callable | None = None) -> None:
        self._lm = lm
        self._forward = lm if forward is None else forward
        self._sessions: LRUCache = LRUCache(MAX_BYTES, getsizeof=lambda session: session.nbytes)

    def begin(
        self, prefixes: Sequence[KVPrefix], num_new: int, device: torch.device
    ) -> StaticSession | None:
        """Returns a session after prefixes, with room for so many positions.

        It is valid until the next one begins; None where it would take too much memory.
        """
        columns = max(prefix.length for prefix in prefixes) + num_new
        table = self._lm.get_input_embeddings().weight
        # Graphs read the weights where they were when they were recorded.
        kind = (len(prefixes), round_up(columns, COLUMN_STEP), device, table.dtype, table.data_ptr())
        session = self._sessions.get(kind)
        if session is None:
            session = StaticSession(self._forward, self._lm.config, *kind[:4])
            if session.nbytes > MAX_BYTES:
                return None
            self._sessions[kind] = session
        session.begin(prefixes)
        return session


class StaticSession:
    """A batch of B sequences that a decoder reads piece by piece; see DecodeSession.

    Everything that changes from piece to piece is changed where it is.

    Attributes:
        filled: number of the cache's columns in use.

    Args:
        forward: transformers' causal LM, or what it was compiled to.
        config: of the LM.
        num_rows: B.
        room: columns of the cache.
        device: of the embeddings.
        dtype: of keys and values.
    """

    def __init__(
        self,
        forward: Callable,
        config: PreTrainedConfig,
        num_rows: int,
        room: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._forward = forward
        self._layers = [_Layer(room) for _ in range(config.num_hidden_layers)]
        self._cache = Cache(layers=self._layers)
        self._valid = torch.zeros(num_rows, room, dtype=torch.bool, device=device)
        self._lengths = torch.zeros(num_rows, dtype=torch.long, device=device)
        self._column = torch.zeros((), dtype=torch.long, device=device)
        self._common: KVPrefix | None = None  # what the first columns of all rows hold
        self._graphs: dict[Hashable, CudaGraphs] = {}
        self.filled = 0
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.nbytes = 2 * len(self._layers) * num_rows * room * heads * width * dtype.itemsize

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def device(self) -> torch.device:
        """The device of the embeddings."""
        return self._lengths.device

    def begin(self, prefixes: Sequence[KVPrefix]) -> None:
        """Forgets what was read, and continues after B prefixes, their ends aligned."""
        longest = max(prefix.length for prefix in prefixes)
        common = prefixes[0] if all(one is prefixes[0] for one in prefixes) else None
        if common is None or common is not self._common:
            for layer, states in zip(self._layers, stacked_prefixes(prefixes)):
                layer.put(*states)
        self._common = common
        for layer in self._layers:
            layer.clear(longest)
        self._lengths.copy_(send([prefix.length for prefix in prefixes], self.device))
        place = torch.arange(self._valid.shape[1], device=self.device)
        self._valid.copy_((place >= longest - self._lengths[:, None]) & (place < longest))
        self._column.fill_(longest)
        self.filled = longest

    def forward(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Reads the next piece (B, L, D) with its mask (B, L); returns logits (B, V) float32."""
        logits = self.graphs("forward", self.read)(embeds, mask.bool())
        self.filled += embeds.shape[1]
        return logits

    def graphs(self, name: Hashable, function: Callable[..., Tensors]) -> CudaGraphs:
        """Returns a function on this session as CUDA graphs, which live as long as its cache."""
        if name not in self._graphs:
            self._graphs[name] = CudaGraphs(function)
        return self._graphs[name]

    def read(self, embeds: Tensor, mask: Tensor, rows: Tensor | None = None) -> Tensor:
        """Does what forward does, as a part of a function that becomes a graph.

        Args:
            embeds: (B, L, D), padded on the left.
            mask: (B, L) bool.
            rows: (B,) int64, the sequences that are continued; None continues each.
        """
        if rows is not None:
            self._valid.copy_(self._valid[rows])
            self._lengths.copy_(self._lengths[rows])
        columns = self._column + torch.arange(embeds.shape[1], device=self.device)
        positions = (self._lengths[:, None] + mask.cumsum(dim=1) - 1).clamp(min=0)
        self._valid.index_copy_(1, columns, mask)
        for layer in self._layers:
            layer.columns, layer.rows = columns, rows
        out = self._forward(
            inputs_embeds=embeds,
            attention_mask=self._attention_mask(columns),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._lengths.add_(mask.sum(dim=1))
        self._column.add_(embeds.shape[1])
        return out.logits[:, -1].float()

    def prefix(self, row: int, columns: slice, before: KVPrefix) -> KVPrefix:
        """Returns what was read in some columns of a row; see DecodeSession.prefix."""
        return cut_prefix([(each.keys, each.values) for each in self._layers], row, columns, before)

    def _attention_mask(self, columns: Tensor) -> Tensor:
        """Returns the mask (B, 1, L, room) bool: causal, padding excluded."""
        place = torch.arange(self._valid.shape[1], device=self.device)
        new = columns[:, None]
        # Padding attends to itself: a row of the mask that is all False would give NaN.
        return (self._valid[:, None, None] & (new >= place)) | (new == place)


class _Layer(StaticLayer):
    """Keys and values (B, H, room, d) of one layer, written where tensors say.

    Attributes:
        columns: (L,) int64, of the next piece.
        rows: (B,) int64, the rows that are continued; None continues each.
    """

    columns: Tensor
    rows: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> LayerStates:
        """Writes a piece (B, H, L, d); returns all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        for states, piece in ((self.keys, key_states), (self.values, value_states)):
            if self.rows is not None:
                states.copy_(states[self.rows])
            states.index_copy_(2, self.columns, piece)
        return self.keys, self.values

    def put(self, keys: Tensor, values: Tensor) -> None:
        """Writes a prefix (B, H, L, d) to the first columns."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys[:, :, : keys.shape[2]] = keys
        self.values[:, :, : values.shape[2]] = values

    def clear(self, start: int) -> None:
        """Sets everything from a column on to zero: a masked NaN would still give NaN."""
        if self.is_initialized:
            self.keys[:, :, start:].zero_()
            self.values[:, :, start:].zero_()

    def get_seq_length(self) -> int:
        """Returns 0: positions and masks are given with each piece."""
        return 0

"""Sessions in which the LLM reads a batch layer by layer, where layers read different tokens.

Each sequence drops visual tokens of its own before some layers. Every layer therefore has a cache
of its own length, with its own positions and padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache, LlamaForCausalLM
from transformers.cache_utils import DynamicLayer

from llava.mm_utils import pad_left, send
from llava.model.kv_cache import causal_mask, stacked_prefixes
from llava.model.language_model.layer_state import LayerRow, RowReader
from llava.model.language_model.layerwise import LayerInput, LayerwiseLlama
from llava.model.language_model.prompts import Prompt
from llava.model.multimodal_encoder.visual_tokens import needed
from llava.model.token_pruning.layer_pruner import MERGED, LayerKept, LayerState, Stage


@dataclass
class _Columns:
    """The columns of a layer's cache.

    Attributes:
        valid: (B, M) bool, the columns that are not padding.
        key_bias: (B, M), or None.
        following: (B,) int64, the position of the next token; (3, B) with M-RoPE.
    """

    valid: Tensor
    key_bias: Tensor | None
    following: Tensor

    def step(self, hidden: Tensor) -> LayerInput:
        """Adds a column for the next token of each sequence; returns a layer's input for it."""
        self.valid = F.pad(self.valid, (0, 1), value=True)
        if self.key_bias is not None:
            self.key_bias = F.pad(self.key_bias, (0, 1))
        positions, self.following = self.following[..., None], self.following + 1
        return LayerInput(hidden, positions, self.valid[:, None, None], self.key_bias)


class LayerSession:
    """A batch of B sequences that Llama reads layer by layer: the prompts, and then token by token.

    A prompt's prefix ends where its image begins.

    Attributes:
        kept: for each sequence, the visual tokens that remained at some layers.

    Args:
        llm: transformers' Llama.
        prompts: B prompts, each with its reading.
        device: of the embeddings.
    """

    def __init__(
        self, llm: LlamaForCausalLM, prompts: Sequence[Prompt], device: torch.device
    ) -> None:
        self._llm = llm
        self._readings = [needed(prompt.reading) for prompt in prompts]
        self.kept: list[list[LayerKept]] = [[] for _ in prompts]
        self._idx = [reading.kept_idx for reading in self._readings]
        self._cache = Cache(layers=[DynamicLayer() for _ in llm.model.layers])
        prefixes = [prompt.prefix for prompt in prompts]
        for layer, states in enumerate(stacked_prefixes(prefixes)):
            self._cache.update(*states, layer)
        self._starts = [prefix.length for prefix in prefixes]
        self._lengths = [len(p.embeds) - start for p, start in zip(prompts, self._starts)]
        place = torch.arange(max(self._starts), device=device)
        self._system = place >= len(place) - send(self._starts, device)[:, None]
        self._columns: list[_Columns] = []  # of each layer that has read the prompts
        self._forward = LayerwiseLlama(llm, self._before_layer)

    def forward(self, embeds: Tensor, mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Reads the text after the prefixes, and in later calls the next token of every sequence.

        Args:
            embeds: (B, L, D), padded on the left; L is 1 in later calls.
            mask: (B, L), 1 where there is input, 0 for padding.
            position_ids: (3, B, L) int64, positions of M-RoPE; see DecodeSession.forward.

        Returns:
            (B, V) float32, the logits of the next token.
        """
        if not self._columns:
            rows = [
                self._first_row(b, embeds[b, -n:], position_ids)
                for b, n in enumerate(self._lengths)
            ]
            self._embeds = [row.hidden for row in rows]
            state = self._joined(rows, embeds.shape[1])
        else:
            state = LayerInput(embeds, mask, mask)  # placeholders: each layer has its own
        out = self._forward(
            state.hidden, state.mask, state.position_ids, self._cache, True, key_bias=state.key_bias
        )
        return out.logits[:, -1].float()

    def _first_row(self, b: int, embeds: Tensor, position_ids: Tensor | None) -> LayerRow:
        """Returns the input of the first layer for a sequence: its image and text (L, D)."""
        reading, visual = self._readings[b], len(self._idx[b])
        place = self._starts[b] + torch.arange(len(embeds), device=embeds.device)
        if position_ids is not None:
            # With M-RoPE every token has its place in the image already.
            place = position_ids[:, b, -len(embeds) :]
        elif reading.position_ids is not None:
            place = place + reading.num_positions - visual
            place[:visual] = self._starts[b] + reading.position_ids.to(place.device)
        bias = None
        if any(one.key_bias is not None for one in self._readings):
            bias = torch.zeros(len(embeds), device=embeds.device)
            if reading.key_bias is not None:
                bias[:visual] = reading.key_bias.to(bias)
        return LayerRow(embeds, place, bias)

    def _joined(self, rows: Sequence[LayerRow], length: int) -> LayerInput:
        """Returns rows as a batch, padded on the left to a multiple of a length."""
        hidden, mask = pad_left([row.hidden for row in rows], length)
        positions = _padded([row.position_ids for row in rows], hidden.shape[1])
        start, bias = self._system.shape[1], None
        biases = [row.key_bias for row in rows if row.key_bias is not None]
        if biases:
            bias = F.pad(_padded(biases, hidden.shape[1]), (start, 0))
        self._lengths = [len(row.hidden) for row in rows]
        self._valid = torch.cat([self._system, mask.bool()], dim=1)
        columns = torch.arange(start, self._valid.shape[1], device=self._valid.device)
        return LayerInput(hidden, positions, causal_mask(self._valid, columns), bias)

    def _before_layer(self, number: int, state: LayerInput) -> LayerInput:
        """Returns a layer's input: of the prompts with fewer visual tokens, or of a later token."""
        if number < len(self._columns):
            return self._columns[number].step(state.hidden)
        stages = [self._stage(b, number) for b in range(len(self._readings))]
        if any(stages):
            rows = [self._row(state, b) for b in range(len(stages))]
            state = self._joined(
                [
                    row if stage is None else self._pruned(b, stage, row)
                    for b, (stage, row) in enumerate(zip(stages, rows))
                ],
                1,
            )
        following = state.position_ids[..., -1] + 1
        self._columns.append(_Columns(self._valid, state.key_bias, following))
        self._previous = state
        return state

    def _stage(self, b: int, layer: int) -> Stage | None:
        """Returns the drop of a sequence before a layer; None where nothing is dropped."""
        plan = self._readings[b].plan
        stages = () if plan is None else plan.stages
        found = (stage for stage in stages if stage.layer == layer)
        return next((stage for stage in found if stage.asked < len(self._idx[b])), None)

    def _row(self, state: LayerInput, b: int) -> LayerRow:
        """Returns the part of a layer's input that is a sequence's piece."""
        n = self._lengths[b]
        bias = None if state.key_bias is None else state.key_bias[b, -n:]
        return LayerRow(state.hidden[b, -n:], state.position_ids[..., b, -n:], bias)

    def _pruned(self, b: int, stage: Stage, row: LayerRow) -> LayerRow:
        """Returns a row with the visual tokens that its pruner keeps."""
        plan, visual, start = needed(self._readings[b].plan), len(self._idx[b]), self._starts[b]
        before, layer = self._cache.layers[stage.layer - 1], self._cache.layers[stage.layer]
        has_read = self._columns[-1].valid[b]
        reader = RowReader(
            self._llm,
            stage.layer,
            row,
            self._row(self._previous, b),
            self._embeds[b],
            len(row.hidden) - visual,
            before.keys[b][:, has_read.to(before.keys.device)],
            layer.keys[b][:, len(self._system[b]) - start :],
        )
        state = LayerState(start, visual, self._llm.config.num_attention_heads, reader)
        choice = plan.pruner.keep(state, stage.asked, plan.options)
        kept, merged = choice.kept.cpu(), choice.arrays.get("merged", row.hidden[:0])
        self._idx[b] = F.pad(self._idx[b][kept], (0, len(merged)), value=MERGED)
        self.kept[b].append(LayerKept(stage.layer, tuple(self._idx[b].tolist())))
        new = row.with_visual(kept, merged.to(row.hidden.dtype), visual)
        if not plan.pruner.renumbers or new.position_ids.ndim > 1:
            return new
        place = torch.arange(len(new.hidden), device=new.position_ids.device)
        return replace(new, position_ids=start + place)


def _padded(rows: Sequence[Tensor], length: int) -> Tensor:
    """Returns rows (..., L_b) as (..., B, length), zeros on the left."""
    return torch.stack([F.pad(row, (length - row.shape[-1], 0)) for row in rows], dim=-2)

"""ClipCap's decoders, for a batch: beam search as ACCM runs it, diverse beams, greedy.

transformers' own beam search does not give the same candidates: here a finished beam keeps its
place among the beams, and beams are ranked at every step by their mean log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, GPT2LMHeadModel

PADDING_ID = 0  # what a finished beam goes on writing, at no cost; cut off in the end


@dataclass(frozen=True)
class BeamCandidates:
    """The candidates of one sample, best first.

    Attributes:
        ids: W lists of token ids, the stop token included.
        scores: W mean log-probabilities.
        stopped: W flags; False where the length limit ended the text.
    """

    ids: list[list[int]]
    scores: list[float]
    stopped: list[bool]


@dataclass
class _Beams:
    """State of B samples with W beams each.

    Attributes:
        tokens: (B, W, t) int64.
        sums: (B, W) float32, summed log-probabilities.
        lengths: (B, W) float32, tokens up to the stop token.
        stopped: (B, W) bool.
    """

    tokens: Tensor
    sums: Tensor
    lengths: Tensor
    stopped: Tensor

    def select(self, rows: Tensor) -> _Beams:
        """The beams of some of the samples."""
        return _Beams(self.tokens[rows], self.sums[rows], self.lengths[rows], self.stopped[rows])

    def candidates(self) -> list[BeamCandidates]:
        """Each sample's candidates by falling mean log-probability, cut to their own lengths."""
        scores = self.sums / self.lengths
        order = scores.argsort(dim=-1, descending=True, stable=True)
        results = []
        for b, beams in enumerate(order.tolist()):
            lengths = [int(self.lengths[b, w]) for w in beams]
            rows = self.tokens[b, beams].tolist()
            results.append(
                BeamCandidates(
                    ids=[row[:length] for row, length in zip(rows, lengths)],
                    scores=scores[b, beams].tolist(),
                    stopped=self.stopped[b, beams].tolist(),
                )
            )
        return results


def beam_search(
    gpt: GPT2LMHeadModel,
    embeds: Tensor,
    mask: Tensor,
    stop_id: int,
    beam_size: int = 3,
    max_length: int = 67,
    temperature: float = 1.0,
    group_size: int = 1,
    diversity_penalty: float = 0.0,
) -> list[BeamCandidates]:
    """Writes beam_size candidates for each sample.

    Args:
        gpt: GPT-2 in eval mode.
        embeds: (B, L, D) input embeddings, padded on the left.
        mask: (B, L), 1 where there is input.
        stop_id: a beam ends with this token.
        beam_size: W.
        max_length: tokens a beam may have.
        temperature: divides the logits.
        group_size: with a diversity_penalty, W is cut into groups of so many neighbours.
        diversity_penalty: taken off the log-probability of a token, from the second step on, for
            every time it stands in the history of any beam of the same group (ClipCap's "diverse"
            beams; groups are not compared with each other). 0 is plain beam search.

    Returns:
        One BeamCandidates a sample; a sample's result does not depend on the others.
    """
    decoder = _CachedDecoder(gpt, embeds, mask, temperature)
    log_probs = decoder.start(beam_size)  # (B, V)
    sums, tokens = log_probs.topk(beam_size, dim=-1)
    beams = _Beams(tokens.unsqueeze(-1), sums, torch.ones_like(sums), tokens == stop_id)
    running = torch.arange(len(embeds), device=embeds.device)
    results: dict[int, BeamCandidates] = {}
    while True:
        done = beams.stopped.all(dim=-1) | (beams.tokens.shape[-1] >= max_length)
        if done.any():  # finished samples leave the computation
            results.update(zip(running[done].tolist(), beams.select(done).candidates()))
            if done.all():
                return [results[b] for b in range(len(embeds))]
            beams, running = beams.select(~done), running[~done]
            decoder.keep_samples(~done)
        log_probs = decoder.step(beams.tokens[..., -1])  # (B, W, V)
        if diversity_penalty:
            log_probs = log_probs - diversity_penalty * _group_counts(
                beams.tokens, group_size, log_probs.shape[-1]
            )
        beams, source = _advance(beams, log_probs, stop_id)
        decoder.reorder(source)


def _advance(beams: _Beams, log_probs: Tensor, stop_id: int) -> tuple[_Beams, Tensor]:
    """One step: the W best continuations by mean log-probability, and the beams they go on from."""
    log_probs = log_probs.masked_fill(beams.stopped.unsqueeze(-1), -torch.inf)
    log_probs[..., PADDING_ID].masked_fill_(beams.stopped, 0)
    lengths = beams.lengths + (~beams.stopped)
    means = (beams.sums.unsqueeze(-1) + log_probs) / lengths.unsqueeze(-1)
    best, flat = means.flatten(1).topk(beams.tokens.shape[1], dim=-1)
    vocabulary = log_probs.shape[-1]
    source, token = flat // vocabulary, flat % vocabulary
    lengths = lengths.gather(1, source)
    history = beams.tokens.gather(1, source.unsqueeze(-1).expand(-1, -1, beams.tokens.shape[-1]))
    advanced = _Beams(
        tokens=torch.cat([history, token.unsqueeze(-1)], dim=-1),
        sums=best * lengths,
        lengths=lengths,
        stopped=beams.stopped.gather(1, source) | (token == stop_id),
    )
    return advanced, source


def _group_counts(tokens: Tensor, group_size: int, vocabulary: int) -> Tensor:
    """How often each token stands in the histories of a beam's group, padding included.

    Args:
        tokens: (B, W, t).

    Returns:
        (B, W, vocabulary) float32.
    """
    groups = tokens.unflatten(1, (-1, group_size)).flatten(2)  # (B, W / group_size, group_size * t)
    counts = torch.zeros(*groups.shape[:2], vocabulary, device=tokens.device)
    counts.scatter_add_(-1, groups, torch.ones_like(groups, dtype=counts.dtype))
    return counts.repeat_interleave(group_size, dim=1)


class _CachedDecoder:
    """GPT-2 with its keys and values: one prefill, then a token a beam and step.

    Args:
        gpt: GPT-2 in eval mode.
        embeds: (B, L, D), padded on the left.
        mask: (B, L).
        temperature: divides the logits.
    """

    def __init__(
        self, gpt: GPT2LMHeadModel, embeds: Tensor, mask: Tensor, temperature: float
    ) -> None:
        self._gpt = gpt
        self._embeds = embeds
        self._mask = mask
        self._next_position = mask.sum(dim=-1)  # (B,)
        self._padded = bool((mask == 0).any())
        self._temperature = temperature
        self._cache = DynamicCache(config=gpt.config)

    def start(self, beam_size: int) -> Tensor:
        """Reads the input; log-probabilities (B, V) of the first token."""
        positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)  # learned ones: padding has none
        log_probs = self._forward(inputs_embeds=self._embeds, position_ids=positions)
        self._cache.batch_repeat_interleave(beam_size)
        return log_probs

    def step(self, tokens: Tensor) -> Tensor:
        """Reads one token (B, W) a beam; log-probabilities (B, W, V) of the next."""
        beams = tokens.shape[1]
        if self._padded:
            self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=-1)
        positions = self._next_position.repeat_interleave(beams).unsqueeze(-1)
        self._next_position = self._next_position + 1
        log_probs = self._forward(input_ids=tokens.reshape(-1, 1), position_ids=positions)
        return log_probs.unflatten(0, (-1, beams))

    def keep_samples(self, keep: Tensor) -> None:
        """Leaves finished samples behind; keep is (B,) bool."""
        beams = self._cache.layers[0].keys.shape[0] // len(keep)
        self._cache.batch_select_indices(keep.repeat_interleave(beams))
        self._mask, self._next_position = self._mask[keep], self._next_position[keep]

    def reorder(self, source: Tensor) -> None:
        """Lets every beam go on from the history of another; source is (B, W), per sample."""
        first = torch.arange(len(source), device=source.device).unsqueeze(-1) * source.shape[1]
        self._cache.reorder_cache((first + source).flatten())

    def _forward(self, **inputs: Tensor) -> Tensor:
        """Log-probabilities (rows, V) float32 behind the last position."""
        mask = None
        if self._padded:
            rows = next(iter(inputs.values())).shape[0]
            mask = self._mask.repeat_interleave(rows // len(self._mask), dim=0)
        out = self._gpt.transformer(
            **inputs, attention_mask=mask, past_key_values=self._cache, use_cache=True
        )
        logits = self._gpt.lm_head(out.last_hidden_state[:, -1])
        return (logits.float() / self._temperature).log_softmax(dim=-1)


def sample_search(
    gpt: GPT2LMHeadModel,
    embeds: Tensor,
    mask: Tensor,
    stop_id: int,
    generators: list[torch.Generator],
    max_length: int = 67,
    top_k: int | None = None,
    top_p: float | None = None,
) -> list[list[int]]:
    """A random text for each sample, up to and including the stop token.

    Args:
        gpt: GPT-2 in eval mode.
        embeds: (B, L, D) input embeddings, padded on the left.
        mask: (B, L), 1 where there is input.
        stop_id: a text ends with this token.
        generators: B of them, on the CPU; a sample draws from its own alone.
        max_length: tokens that a text may have.
        top_k: draw from so many likeliest tokens.
        top_p: draw from the likeliest tokens that together have this probability (the nucleus).
    """
    decoder = _CachedDecoder(gpt, embeds, mask, temperature=1.0)
    log_probs = decoder.start(1)
    texts: list[list[int]] = [[] for _ in generators]
    for _ in range(max_length):
        probs = _truncate(log_probs.cpu(), top_k, top_p).softmax(dim=-1)
        tokens = [torch.multinomial(p, 1, generator=g) for p, g in zip(probs, generators)]
        for text, token in zip(texts, tokens):
            if not text or text[-1] != stop_id:
                text.append(int(token))
        if all(text[-1] == stop_id for text in texts):
            break
        log_probs = decoder.step(torch.stack(tokens).to(embeds.device))[:, 0]
    return texts


def _truncate(log_probs: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Log-probabilities (B, V), -inf where a token may not be drawn."""
    ordered, order = log_probs.sort(dim=-1, descending=True)
    allowed = torch.ones_like(ordered, dtype=torch.bool)
    if top_k is not None:
        allowed[:, top_k:] = False
    if top_p is not None:
        probs = ordered.exp()
        allowed &= probs.cumsum(dim=-1) - probs < top_p  # the one that passes the mark included
    ordered = ordered.masked_fill(~allowed, -torch.inf)
    return torch.empty_like(ordered).scatter_(-1, order, ordered)


def greedy_search(
    gpt: GPT2LMHeadModel, embeds: Tensor, mask: Tensor, stop_id: int, max_length: int = 67
) -> list[list[int]]:
    """The likeliest token each time, up to and including the stop token: a single beam."""
    found = beam_search(gpt, embeds, mask, stop_id, beam_size=1, max_length=max_length)
    return [candidates.ids[0] for candidates in found]

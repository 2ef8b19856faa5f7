"""ClipCap's decoders, for a batch: beam search as ACCM runs it, diverse beams, greedy.

transformers' own beam search does not give the same candidates: here a finished beam keeps its
place among the beams, and beams are ranked at every step by their mean log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from llava.mm_utils import round_up, rounds_by_rows
from llava.model.cuda import AsyncStopFlag
from llava.model.kv_cache import DecodeSession, KVPrefix
from llava.model.static_cache import StaticSession, StaticSessions

PADDING_ID = 0  # what a stopped beam is padded with, at no cost; cut off in the end
PROMPT_STEP = 8  # the lengths of prompts in a static cache are multiples of it


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


class _Beams(NamedTuple):
    """The state of B samples with W beams each after a step.

    Attributes:
        last: (B, W) int64, the last token of each.
        source: (B, W) int64, the beam of its sample that each one continues.
        sums: (B, W) float32, summed log-probabilities.
        lengths: (B, W) float32, tokens up to the stop token.
        stopped: (B, W) bool.
    """

    last: Tensor
    source: Tensor
    sums: Tensor
    lengths: Tensor
    stopped: Tensor

    def extended(self, tokens: Tensor) -> Tensor:
        """Returns the texts (B, W, t + 1) from those (B, W, t) of the step before."""
        history = tokens.gather(1, self.source.unsqueeze(-1).expand_as(tokens))
        return torch.cat([history, self.last.unsqueeze(-1)], dim=-1)

    def candidates(self, tokens: Tensor) -> list[BeamCandidates]:
        """Returns each sample's candidates by falling mean log-probability, cut at their ends.

        Args:
            tokens: (B, W, t), the texts.
        """
        means = self.sums / self.lengths
        order = means.argsort(dim=-1, descending=True, stable=True)
        ranked = [t.gather(1, order).tolist() for t in (means, self.lengths, self.stopped)]
        texts = tokens.gather(1, order.unsqueeze(-1).expand_as(tokens)).tolist()
        return [
            BeamCandidates(
                ids=[row[: int(length)] for row, length in zip(rows, lengths)],
                scores=scores,
                stopped=stopped,
            )
            for rows, scores, lengths, stopped in zip(texts, *ranked)
        ]


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
    static: StaticSessions | None = None,
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
        group_size: with a diversity_penalty, W is cut into groups of this many neighbours.
        diversity_penalty: taken off the log-probability of a token, from the second step on, for
            every time it occurs in the history of any beam of the same group (ClipCap's "diverse"
            beams; groups are not compared with each other). 0 is plain beam search.
        static: sessions of GPT-2 for CUDA graphs of the steps; None takes a cache that grows.

    Returns:
        One BeamCandidates a sample; in float32 a sample's result does not depend on the others.
    """
    search = None
    if static is not None and not diversity_penalty:
        search = _static_search(gpt, static, embeds, mask, beam_size, max_length)
    if search is None:
        session, logits = _read_prompts(gpt, embeds, mask)
        search = _Rows(gpt, session, beam_size), logits
    rows, logits = search
    sums, last = _log_probs(logits, temperature).topk(beam_size, dim=-1)
    source = torch.arange(beam_size, device=embeds.device).expand_as(last)
    beams = _Beams(last, source, sums, torch.ones_like(sums), last == stop_id)
    tokens = last.unsqueeze(-1)
    finished = AsyncStopFlag(embeds.device)
    for _ in range(1, max_length):
        finished.push(beams.stopped.all())
        if finished.is_set():
            break
        if diversity_penalty:
            log_probs = _log_probs(rows.logits(beams), temperature)
            counts = _group_counts(tokens, group_size, log_probs.shape[-1])
            beams = _advance(beams, log_probs - diversity_penalty * counts, stop_id)
        else:
            beams = rows.step(beams, temperature, stop_id)
        tokens = beams.extended(tokens)
    return beams.candidates(tokens)


def _read_prompts(
    gpt: GPT2LMHeadModel, embeds: Tensor, mask: Tensor
) -> tuple[DecodeSession, Tensor]:
    """Prefills the prompts of B samples; returns the session and the logits (B, V) float32."""
    if not rounds_by_rows(gpt):
        session = DecodeSession(gpt, gpt.config, [KVPrefix()] * len(embeds), embeds.device)
        return session, session.forward(embeds, mask)
    prefixes, logits = [], []
    for prompt, there in zip(embeds, mask.bool()):
        alone = DecodeSession(gpt, gpt.config, [KVPrefix()], embeds.device)
        logits.append(alone.forward(prompt[there][None], there[there][None]))
        prefixes.append(alone.prefix(0, slice(None), KVPrefix()))
    return DecodeSession(gpt, gpt.config, prefixes, embeds.device), torch.cat(logits)


def _log_probs(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns log-probabilities (..., V) float32."""
    return (logits if temperature == 1 else logits / temperature).log_softmax(dim=-1)


class _Rows:
    """GPT-2's forward pass over the beams of B samples, W each.

    On a CPU, beams that have stopped leave the computation at once. On a GPU they stay: there the
    number of rows costs nothing, and reading it would make the CPU wait for the GPU.

    Args:
        gpt: GPT-2 in eval mode.
        session: has read the prompts, one row per sample.
        beam_size: W.
    """

    def __init__(self, gpt: GPT2LMHeadModel, session: DecodeSession, beam_size: int) -> None:
        self._embed = gpt.get_input_embeddings()
        self._keeps_two = rounds_by_rows(gpt)
        self._session = session
        # (B * W,) the row of the session that has each beam's history.
        self._row_of = torch.arange(len(session), device=session.device).repeat_interleave(
            beam_size
        )

    def step(self, beams: _Beams, temperature: float, stop_id: int) -> _Beams:
        """Returns the beams after one more token."""
        return _advance(beams, _log_probs(self.logits(beams), temperature), stop_id)

    def logits(self, beams: _Beams) -> Tensor:
        """Reads the last token of each beam.

        Returns:
            (B, W, V) float32 logits; those of a stopped beam mean nothing.
        """
        num_samples, beam_size = beams.source.shape
        rows = self._row_of[_flat_rows(beams.source)]
        running = self._running(beams.stopped.flatten())
        all_run = len(running) == len(rows)
        if self._keeps_two and len(running) == 1:
            running = running.repeat(2)  # never the kernel for one row, which no batch would use
        self._session.select(rows[running])
        self._row_of = torch.zeros_like(rows)
        self._row_of[running] = torch.arange(len(running), device=rows.device)
        tokens = beams.last.flatten()[running].unsqueeze(-1)
        logits = self._session.forward(self._embed(tokens), torch.ones_like(tokens))
        if all_run:
            return logits[: len(rows)].unflatten(0, (num_samples, beam_size))
        every = logits.new_zeros(len(rows), logits.shape[-1])
        every[running] = logits
        return every.unflatten(0, (num_samples, beam_size))

    @staticmethod
    def _running(stopped: Tensor) -> Tensor:
        """Returns the indices (R,) of the beams to compute."""
        if stopped.device.type == "cuda":
            return torch.arange(len(stopped), device=stopped.device)
        return (~stopped).nonzero().squeeze(-1)


class _StaticRows:
    """GPT-2's forward pass over the beams of B samples in a static cache, each step a CUDA graph.

    Args:
        gpt: GPT-2 in eval mode.
        session: has read the prompts, W rows for each sample.
    """

    def __init__(self, gpt: GPT2LMHeadModel, session: StaticSession) -> None:
        self._embed = gpt.get_input_embeddings()
        self._session = session

    def step(self, beams: _Beams, temperature: float, stop_id: int) -> _Beams:
        """Returns the beams after one more token."""

        def advance(*state: Tensor) -> _Beams:
            before = _Beams(*state)
            ones = torch.ones_like(before.last, dtype=torch.bool).view(-1, 1)
            embeds = self._embed(before.last).flatten(0, 1).unsqueeze(1)
            logits = self._session.read(embeds, ones, _flat_rows(before.source))
            log_probs = _log_probs(logits.unflatten(0, before.last.shape), temperature)
            return _advance(before, log_probs, stop_id)

        kind = (beams.last.shape, temperature, stop_id)
        return _Beams(*self._session.graphs(kind, advance)(*beams))


def _static_search(
    gpt: GPT2LMHeadModel,
    static: StaticSessions,
    embeds: Tensor,
    mask: Tensor,
    beam_size: int,
    max_length: int,
) -> tuple[_StaticRows, Tensor] | None:
    """Prefills the prompts of B samples, and copies them for their beams into a static cache.

    Returns:
        The rows, and the logits (B, V) float32; None where the cache would be too large, or for one
        beam.
    """
    more = round_up(embeds.shape[1], PROMPT_STEP) - embeds.shape[1]
    embeds, mask = F.pad(embeds, (0, 0, more, 0)), F.pad(mask, (more, 0))
    nothing, length = [KVPrefix()] * len(embeds), embeds.shape[1]
    prompts = static.begin(nothing, length, embeds.device)
    session = static.begin(nothing * beam_size, length + max_length, embeds.device)
    if session is None or session is prompts:
        return None
    logits = prompts.forward(embeds, mask)
    session.repeat(prompts, beam_size)
    return _StaticRows(gpt, session), logits


def _flat_rows(source: Tensor) -> Tensor:
    """Returns the rows (B * W,) of a batch's beams that beams (B, W) of each sample stand for."""
    num_samples, beam_size = source.shape
    first = torch.arange(num_samples, device=source.device).unsqueeze(-1) * beam_size
    return (first + source).flatten()


def _advance(beams: _Beams, log_probs: Tensor, stop_id: int) -> _Beams:
    """Returns the W best continuations by mean log-probability.

    A sample whose beams have all stopped stays as it is, with padding behind its texts.

    Args:
        beams: the beams.
        log_probs: (B, W, V) float32, of the next token.
        stop_id: a beam ends with this token.
    """
    log_probs = log_probs.masked_fill(beams.stopped.unsqueeze(-1), -torch.inf)
    log_probs[..., PADDING_ID].masked_fill_(beams.stopped, 0)
    lengths = beams.lengths + (~beams.stopped)
    means = (beams.sums.unsqueeze(-1) + log_probs) / lengths.unsqueeze(-1)
    best, flat = means.flatten(1).topk(beams.last.shape[1], dim=-1)
    vocabulary = log_probs.shape[-1]
    source, token = flat // vocabulary, flat % vocabulary
    lengths = lengths.gather(1, source)
    done = beams.stopped.all(dim=-1, keepdim=True)
    same = torch.arange(source.shape[1], device=source.device).expand_as(source)
    return _Beams(
        last=token.masked_fill(done, PADDING_ID),
        source=torch.where(done, same, source),
        sums=torch.where(done, beams.sums, best * lengths),
        lengths=torch.where(done, beams.lengths, lengths),
        stopped=beams.stopped.gather(1, source) | (token == stop_id) | done,
    )


def _group_counts(tokens: Tensor, group_size: int, vocabulary: int) -> Tensor:
    """Counts how often each token occurs in the histories of a beam's group, padding included.

    Args:
        tokens: (B, W, t).

    Returns:
        (B, W, vocabulary) float32.
    """
    groups = tokens.unflatten(1, (-1, group_size)).flatten(2)  # (B, W / group_size, group_size * t)
    counts = torch.zeros(*groups.shape[:2], vocabulary, device=tokens.device)
    counts.scatter_add_(-1, groups, torch.ones_like(groups, dtype=counts.dtype))
    return counts.repeat_interleave(group_size, dim=1)


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
    """Draws a random text for each sample, up to and including the stop token.

    Args:
        gpt: GPT-2 in eval mode.
        embeds: (B, L, D) input embeddings, padded on the left.
        mask: (B, L), 1 where there is input.
        stop_id: a text ends with this token.
        generators: B of them, on the CPU; a sample draws from its own only.
        max_length: tokens that a text may have.
        top_k: draw from this many of the likeliest tokens.
        top_p: draw from the likeliest tokens that together have this probability (the nucleus).
    """
    session = DecodeSession(gpt, gpt.config, [KVPrefix()] * len(embeds), embeds.device)
    log_probs = _log_probs(session.forward(embeds, mask))
    embed = gpt.get_input_embeddings()
    texts: list[list[int]] = [[] for _ in generators]
    for _ in range(max_length):
        probs = _truncate(log_probs, top_k, top_p).softmax(dim=-1).cpu()
        tokens = [torch.multinomial(p, 1, generator=g) for p, g in zip(probs, generators)]
        for text, token in zip(texts, tokens):
            if not text or text[-1] != stop_id:
                text.append(int(token))
        if all(text[-1] == stop_id for text in texts):
            break
        read = torch.stack(tokens).to(embeds.device)  # (B, 1)
        log_probs = _log_probs(session.forward(embed(read), torch.ones_like(read)))
    return texts


def _truncate(log_probs: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Returns log-probabilities (B, V), -inf where a token may not be drawn."""
    ordered, order = log_probs.sort(dim=-1, descending=True)
    allowed = torch.ones_like(ordered, dtype=torch.bool)
    if top_k is not None:
        allowed[:, top_k:] = False
    if top_p is not None:
        probs = ordered.exp()
        allowed &= probs.cumsum(dim=-1) - probs < top_p  # the token that passes the mark included
    ordered = ordered.masked_fill(~allowed, -torch.inf)
    return torch.empty_like(ordered).scatter_(-1, order, ordered)


def greedy_search(
    gpt: GPT2LMHeadModel, embeds: Tensor, mask: Tensor, stop_id: int, max_length: int = 67
) -> list[list[int]]:
    """Decodes greedily, up to and including the stop token: a single beam."""
    found = beam_search(gpt, embeds, mask, stop_id, beam_size=1, max_length=max_length)
    return [candidates.ids[0] for candidates in found]

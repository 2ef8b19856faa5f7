"""ClipCap's decoders, for a batch: beam search as ACCM runs it, diverse beams, greedy.

transformers' own beam search does not give the same candidates: here a finished beam keeps its
place among the beams, and beams are ranked at every step by their mean log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from llava.mm_utils import round_up, rounds_by_rows
from llava.model.compensation.beam_rows import (
    Beams,
    StaticRows,
    advance_beams,
    log_probs_of,
)
from llava.model.compensation.beam_rows import Rows as _Rows
from llava.model.cuda import AsyncStopFlag
from llava.model.kv_cache import DecodeSession, KVPrefix
from llava.model.static_cache import StaticSessions

PROMPT_STEP = 8  # prompts in a static cache have multiples of this length


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
        max_length: the largest number of tokens of a beam.
        temperature: divides the logits.
        group_size: with a diversity_penalty, W is cut into groups of this many neighbours.
        diversity_penalty: subtracted from the log-probability of a token, from the second step on,
            once for each time it occurs in the history of any beam of the same group (ClipCap's
            "diverse" beams; groups are not compared with each other). 0 is plain beam search.
        static: sessions of GPT-2 for CUDA graphs of the steps; None takes a cache that grows.

    Returns:
        One BeamCandidates for each sample; in float32 a sample's result does not depend on the
        others.
    """
    search: tuple[Any, Tensor] | None = None  # _StaticRows or _Rows, and logits
    if static is not None and not diversity_penalty:
        search = _static_search(gpt, static, embeds, mask, beam_size, max_length)
    if search is None:
        session, logits = _read_prompts(gpt, embeds, mask)
        search = _Rows(gpt, session, beam_size), logits
    rows, logits = search
    sums, last = log_probs_of(logits, temperature).topk(beam_size, dim=-1)
    source = torch.arange(beam_size, device=embeds.device).expand_as(last)
    beams = Beams(last, source, sums, torch.ones_like(sums), last == stop_id)
    tokens = last.unsqueeze(-1)
    finished = AsyncStopFlag(embeds.device)
    for _ in range(1, max_length):
        finished.push(beams.stopped.all())
        if finished.is_set():
            break
        if diversity_penalty:
            log_probs = log_probs_of(rows.logits(beams), temperature)
            counts = _group_counts(tokens, group_size, log_probs.shape[-1])
            beams = advance_beams(beams, log_probs - diversity_penalty * counts, stop_id)
        else:
            beams = rows.step(beams, temperature, stop_id)
        tokens = beams.extended(tokens)
    return _candidates(beams, tokens)


def _candidates(beams: Beams, tokens: Tensor) -> list[BeamCandidates]:
    """Returns each sample's candidates by falling mean log-probability, cut at their ends.

    Args:
        beams: the state after the last step.
        tokens: (B, W, t), the texts.
    """
    means = beams.sums / beams.lengths
    order = means.argsort(dim=-1, descending=True, stable=True)
    ranked = [t.gather(1, order).tolist() for t in (means, beams.lengths, beams.stopped)]
    texts = tokens.gather(1, order.unsqueeze(-1).expand_as(tokens)).tolist()
    return [
        BeamCandidates(
            ids=[row[: int(length)] for row, length in zip(rows, lengths)],
            scores=scores,
            stopped=stopped,
        )
        for rows, scores, lengths, stopped in zip(texts, *ranked)
    ]


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


def _static_search(
    gpt: GPT2LMHeadModel,
    static: StaticSessions,
    embeds: Tensor,
    mask: Tensor,
    beam_size: int,
    max_length: int,
) -> tuple[StaticRows, Tensor] | None:
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
    if prompts is None or session is None or session is prompts:
        return None
    logits = prompts.forward(embeds, mask)
    session.repeat(prompts, beam_size)
    return StaticRows(gpt, session), logits


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
        generators: B random generators on the CPU; a sample draws only from its own.
        max_length: the largest number of tokens of a text.
        top_k: the number of likeliest tokens to draw from.
        top_p: draw from the likeliest tokens that together have this probability (the nucleus).
    """
    session = DecodeSession(gpt, gpt.config, [KVPrefix()] * len(embeds), embeds.device)
    log_probs = log_probs_of(session.forward(embeds, mask))
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
        log_probs = log_probs_of(session.forward(embed(read), torch.ones_like(read)))
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

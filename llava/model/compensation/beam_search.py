"""ClipCap's decoders, for a batch: beam search as ACCM runs it, diverse beams, greedy.

transformers' own beam search does not give the same candidates: here a finished beam keeps its
place among the beams, and beams are ranked at every step by their mean log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from llava.mm_utils import rounds_by_rows
from llava.model.cuda import AsyncStopFlag
from llava.model.kv_cache import DecodeSession, KVPrefix

PADDING_ID = 0  # what a stopped beam is padded with, at no cost; cut off in the end


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
    """The state of B samples with W beams each.

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

    def advanced(self, following: _Beams) -> _Beams:
        """Returns the beams of the next step.

        A sample whose beams have all stopped stays as it is, but for padding behind its texts.
        """
        done = self.stopped.all(dim=-1, keepdim=True)
        padded = F.pad(self.tokens, (0, 1), value=PADDING_ID)
        return _Beams(
            tokens=torch.where(done.unsqueeze(-1), padded, following.tokens),
            sums=torch.where(done, self.sums, following.sums),
            lengths=torch.where(done, self.lengths, following.lengths),
            stopped=following.stopped | done,
        )

    def candidates(self) -> list[BeamCandidates]:
        """Returns each sample's candidates by falling mean log-probability, cut at their ends."""
        means = self.sums / self.lengths
        order = means.argsort(dim=-1, descending=True, stable=True)
        ranked = [t.gather(1, order).tolist() for t in (means, self.lengths, self.stopped)]
        place = order.unsqueeze(-1).expand_as(self.tokens)
        texts = self.tokens.gather(1, place).tolist()
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

    Returns:
        One BeamCandidates a sample; in float32 a sample's result does not depend on the others.
    """
    session, logits = _read_prompts(gpt, embeds, mask)
    sums, tokens = _log_probs(logits, temperature).topk(beam_size, dim=-1)
    beams = _Beams(tokens.unsqueeze(-1), sums, torch.ones_like(sums), tokens == stop_id)
    source = torch.arange(beam_size, device=embeds.device).expand_as(tokens)
    rows = _Rows(gpt, session, beam_size)
    finished = AsyncStopFlag(embeds.device)
    for _ in range(1, max_length):
        finished.push(beams.stopped.all())
        if finished.is_set():
            break
        log_probs = _log_probs(rows.step(beams, source), temperature)  # (B, W, V)
        if diversity_penalty:
            log_probs = log_probs - diversity_penalty * _group_counts(
                beams.tokens, group_size, log_probs.shape[-1]
            )
        following, source = _advance(beams, log_probs, stop_id)
        beams = beams.advanced(following)
    return beams.candidates()


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

    def step(self, beams: _Beams, source: Tensor) -> Tensor:
        """Reads the last token of each beam.

        Args:
            beams: the beams.
            source: (B, W), the beam of its sample that each one continues.

        Returns:
            (B, W, V) float32 logits; those of a stopped beam mean nothing.
        """
        num_samples, beam_size = source.shape
        first = torch.arange(num_samples, device=source.device).unsqueeze(-1) * beam_size
        rows = self._row_of[(first + source).flatten()]
        running = self._running(beams.stopped.flatten())
        all_run = len(running) == len(rows)
        if self._keeps_two and len(running) == 1:
            running = running.repeat(2)  # never the kernel for one row, which no batch would use
        self._session.select(rows[running])
        self._row_of = torch.zeros_like(rows)
        self._row_of[running] = torch.arange(len(running), device=rows.device)
        tokens = beams.tokens[..., -1].flatten()[running].unsqueeze(-1)
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


def _advance(beams: _Beams, log_probs: Tensor, stop_id: int) -> tuple[_Beams, Tensor]:
    """Returns the W best continuations by mean log-probability, and the beams they continue."""
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
        probs = _truncate(log_probs.cpu(), top_k, top_p).softmax(dim=-1)
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

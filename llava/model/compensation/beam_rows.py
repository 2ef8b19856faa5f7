"""The beams of ClipCap's search, and GPT-2's passes over them: one row for each beam."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from llava.mm_utils import rounds_by_rows
from llava.model.kv_cache import DecodeSession
from llava.model.static_cache import StaticSession

PADDING_ID = 0  # the padding of a stopped beam; it is cut off at the end


class Beams(NamedTuple):
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


class Rows:
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

    def step(self, beams: Beams, temperature: float, stop_id: int) -> Beams:
        """Returns the beams after one more token."""
        return advance_beams(beams, log_probs_of(self.logits(beams), temperature), stop_id)

    def logits(self, beams: Beams) -> Tensor:
        """Reads the last token of each beam.

        Returns:
            (B, W, V) float32 logits; those of a stopped beam have no meaning.
        """
        num_samples, beam_size = beams.source.shape
        rows = self._row_of[_flat_rows(beams.source)]
        running = self._running(beams.stopped.flatten())
        all_run = len(running) == len(rows)
        if self._keeps_two and len(running) == 1:
            running = running.repeat(2)  # a kernel for one row would round differently
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


class StaticRows:
    """GPT-2's forward pass over the beams of B samples in a static cache, each step a CUDA graph.

    Args:
        gpt: GPT-2 in eval mode.
        session: has read the prompts, W rows for each sample.
    """

    def __init__(self, gpt: GPT2LMHeadModel, session: StaticSession) -> None:
        self._embed = gpt.get_input_embeddings()
        self._session = session

    def step(self, beams: Beams, temperature: float, stop_id: int) -> Beams:
        """Returns the beams after one more token."""

        def advance(*state: Tensor) -> Beams:
            before = Beams(*state)
            ones = torch.ones_like(before.last, dtype=torch.bool).view(-1, 1)
            embeds = self._embed(before.last).flatten(0, 1).unsqueeze(1)
            logits = self._session.read(embeds, ones, _flat_rows(before.source))
            log_probs = log_probs_of(logits.unflatten(0, before.last.shape), temperature)
            return advance_beams(before, log_probs, stop_id)

        kind = (beams.last.shape, temperature, stop_id)
        return Beams(*self._session.graphs(kind, advance)(*beams))


def _flat_rows(source: Tensor) -> Tensor:
    """Returns the rows (B * W,) in the batch of the beams (B, W) of each sample."""
    num_samples, beam_size = source.shape
    first = torch.arange(num_samples, device=source.device).unsqueeze(-1) * beam_size
    return (first + source).flatten()


def advance_beams(beams: Beams, log_probs: Tensor, stop_id: int) -> Beams:
    """Returns the W best continuations by mean log-probability.

    A sample whose beams have all stopped stays unchanged, with padding after its texts.

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
    return Beams(
        last=token.masked_fill(done, PADDING_ID),
        source=torch.where(done, same, source),
        sums=torch.where(done, beams.sums, best * lengths),
        lengths=torch.where(done, beams.lengths, lengths),
        stopped=beams.stopped.gather(1, source) | (token == stop_id) | done,
    )


def log_probs_of(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns log-probabilities (..., V) float32."""
    return (logits if temperature == 1 else logits / temperature).log_softmax(dim=-1)

"""The objective of train_compensation: captions and choices after which the LLM loses less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import GPT2Tokenizer

from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.long_clip import LongClipText
from llava.model.compensation.selector import Selector, selector_text
from llava.model.language_model.llava_llama import LanguageModel
from llava.train.candidates import Candidates, write_candidates
from llava.train.packing import Packer, Reading, answer_log_probs
from llava.train.stages.caption import caption_batch, caption_loss

if TYPE_CHECKING:
    from llava.train.stages.compensation import CompensationBatch

SCALE = 4.0  # of the weights, as published


class CompensationObjective(nn.Module):
    """The objective of the stage: caption model and selector, judged by the frozen parts.

    Args:
        caption_model: only its GPT-2 is trained, not its mapper.
        selector: trained.
        long_clip: frozen.
        llm: frozen.
        tokenizer: GPT-2's.
        candidates: of KINDS.
        margins: of MARGINS.
        llm_batch_size: readings per batch of the LLM.
    """

    def __init__(
        self,
        caption_model: CaptionModel,
        selector: Selector,
        long_clip: LongClipText,
        llm: LanguageModel,
        tokenizer: GPT2Tokenizer,
        candidates: str,
        margins: str,
        llm_batch_size: int,
    ) -> None:
        super().__init__()
        self.caption_model = caption_model
        self.selector = selector
        self.long_clip = long_clip.requires_grad_(False)
        self.llm = llm.requires_grad_(False)
        self.caption_model.clip_project.requires_grad_(False)
        self._tokenizer = tokenizer
        self._packer = Packer(llm.tokenizer)
        self._candidates = candidates
        self._margins = margins
        self._llm_batch_size = llm_batch_size

    def train(self, mode: bool = True) -> CompensationObjective:
        """Sets training mode for the trained parts only."""
        super().train(mode)
        self.long_clip.eval()
        self.llm.eval()
        return self

    def forward(self, batch: CompensationBatch) -> dict[str, Tensor]:
        """Sums the loss over questions, and measures the candidates.

        It also returns how much of the answer is lost (KL, nats) with the first, the best and the
        chosen candidate, and how often the chosen one is the best.
        """
        dropped = [look.dropped for look in batch.looks]
        questions = [sample.tower_question for sample in batch.samples]
        found = write_candidates(
            self.caption_model, self._tokenizer, dropped, questions, self._candidates, batch.seeds
        )
        silence = [None] * (self.selector.silence is not None)
        lost = self.information_lost(batch, [[*row.captions, *silence] for row in found])
        margin, best = (lost.mean(dim=1, keepdim=True) - lost).max(dim=1)
        caption = self._caption_loss(batch, found, best.tolist())
        log_scores = self._log_scores(batch, found)
        selector = -log_scores.gather(1, best[:, None]).squeeze(1)
        chosen = log_scores.argmax(dim=1, keepdim=True)
        if self._margins == "batch":  # the mean over a batch, however it is split into passes
            loss = {"loss": (caption + selector).sum(), "batch_weight": SCALE * margin.sum()}
        else:
            loss = {"loss": (SCALE * margin * (caption + selector)).sum()}
        return loss | {
            "caption": caption.detach().sum(),
            "selector": selector.detach().sum(),
            "lost_first": lost[:, 0].sum(),
            "lost_mean": lost.mean(dim=1).sum(),
            "lost_best": lost.min(dim=1).values.sum(),
            "lost_chosen": lost.gather(1, chosen).sum(),
        }

    @torch.no_grad()
    def information_lost(
        self, batch: CompensationBatch, captions: Sequence[Sequence[str | None]]
    ) -> Tensor:
        """Computes KL(Q || P) for each caption (or None) of each question, mean over answer tokens.

        Returns:
            (B, W) float32.
        """
        readings = []
        for sample, look, answer, texts in zip(batch.samples, batch.looks, batch.answers, captions):
            readings.append(Reading(look.all, None, sample.question, answer))
            readings += [Reading(look.kept, text, sample.question, answer) for text in texts]
        log_probs = answer_log_probs(self.llm, self._packer, readings, self._llm_batch_size)
        step = len(readings) // len(batch.samples)
        rows = []
        for start in range(0, len(readings), step):
            full, *others = log_probs[start : start + step]
            lost = [(full.exp() * (full - other)).sum(dim=-1).mean() for other in others]
            rows.append(torch.stack(lost))
        return torch.stack(rows)

    def _caption_loss(
        self, batch: CompensationBatch, found: Sequence[Candidates], best: Sequence[int]
    ) -> Tensor:
        """Returns GPT-2's mean cross-entropy (B,) on each best caption; 0 if it is silence."""
        model, tokenizer = self.caption_model, self._tokenizer
        told = [b for b, i in enumerate(best) if i < len(found[b].ids)]
        losses_of_all = torch.zeros(len(best), device=batch.looks[0].kept.device)
        if not told:
            return losses_of_all
        questions = [
            tokenizer.encode(batch.samples[b].tower_question, add_special_tokens=False)
            for b in told
        ]
        texts = [found[b].ids[best[b]] for b in told]
        length = len(model.clip_project.prefix_const)
        captions = caption_batch([batch.looks[b].dropped for b in told], questions, texts, length)
        captions = captions.to(losses_of_all.device)
        with torch.no_grad():
            prefix = model.prefix(captions.dropped, captions.dropped_mask)
        losses, rows, _ = caption_loss(model, captions, prefix)
        sums = losses.new_zeros(len(texts)).index_add(0, rows, losses)
        means = sums / losses.new_tensor([len(text) for text in texts])
        return losses_of_all.index_copy(0, torch.tensor(told, device=means.device), means)

    def _log_scores(self, batch: CompensationBatch, found: Sequence[Candidates]) -> Tensor:
        """Returns the selector's log-probabilities (B, W), or (B, W + 1) with silence's last."""
        texts = [
            selector_text(sample.tower_question, text)
            for sample, row in zip(batch.samples, found)
            for text in row.captions
        ]
        with torch.no_grad():
            features = self.long_clip(texts).float().unflatten(0, (len(found), -1))
        shares = features.new_tensor([look.kept_share for look in batch.looks])
        return self.selector(features, shares).float().log_softmax(dim=-1)

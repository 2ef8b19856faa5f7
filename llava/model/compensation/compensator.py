"""Writes and chooses captions of dropped tokens for a batch of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Tokenizer

from llava.mm_utils import send
from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.caption_writer import MAX_CAPTION_LENGTH, CaptionWriter, Written
from llava.model.compensation.long_clip import LongClipText
from llava.model.compensation.selector import Selector, selector_text
from llava.model.compensation.supplement import PrunedSample, Supplement
from llava.model.cuda import CudaGraphs
from llava.model.stopwatch import Stopwatch

SILENCE = ""  # the caption of a selector that chose none
# CAUTION s^2 is added to silence's logit, where s is the share of tokens that the LLM sees: the
# more it sees, the clearer a caption must be better than none. Chosen on validation scenes of the
# small model (3,024 questions). At half of the tokens, 18% of the questions had a caption without
# it; none of these repaired an answer, and eight spoilt one. With it 0.1% have a caption. At a
# sixteenth of the tokens it is 0.06.
CAUTION = 16.0


@dataclass(frozen=True)
class Compensation(Written):
    """The compensation written for one sample.

    Attributes:
        captions: the candidates' texts, followed by SILENCE where the selector may choose it.
        features: (W, P), LongCLIP's features of the candidates.
        scores: the captions' scores, which sum to 1.
        chosen_index: the index of the highest score; the first of equal ones.
    """

    features: Tensor
    scores: list[float]
    chosen_index: int

    @property
    def chosen_caption(self) -> str:
        """The caption with the highest score; SILENCE where that was chosen."""
        return self.captions[self.chosen_index]

    @property
    def supplement(self) -> Supplement:
        """The supplement for the LLM: the chosen caption."""
        text = None if self.is_silent else self.chosen_caption
        return Supplement(text, tuple(self.captions), tuple(self.scores), self.chosen_index)

    @property
    def is_silent(self) -> bool:
        """Whether the selector chose to give the LLM no caption."""
        return self.chosen_index == len(self.candidates.ids)


class Compensator(CaptionWriter):
    """Caption model, LongCLIP and selector (arXiv 2508.01236); a CompensationModule.

    Args:
        caption_model, gpt_tokenizer, stop_id, max_length: see CaptionWriter.
        long_clip: LongCLIP's text tower.
        selector: scores the candidates.
    """

    def __init__(
        self,
        caption_model: CaptionModel,
        gpt_tokenizer: GPT2Tokenizer,
        long_clip: LongClipText,
        selector: Selector,
        stop_id: int | None = None,
        max_length: int = MAX_CAPTION_LENGTH,
    ) -> None:
        super().__init__(caption_model, gpt_tokenizer, stop_id, max_length)
        self.long_clip = long_clip
        self.selector = selector
        self._logits: CudaGraphs | None = None

    def use_cuda_graphs(self) -> None:
        """Turns the passes of all parts into CUDA graphs on a GPU."""
        super().use_cuda_graphs()
        self._logits = CudaGraphs(self.selector.forward)
        self.long_clip.use_cuda_graphs()

    def parts(self) -> dict[str, nn.Module]:
        """Returns the modules whose matrix products have a form."""
        chosen_by = {"long_clip": self.long_clip.tower, "selector": self.selector}
        return super().parts() | chosen_by

    def forward(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[Compensation]:
        """Writes captions and chooses one for each sample; see CompensationModule."""
        watch = watch or Stopwatch(next(self.parameters()).device)
        with watch.stage("caption"):
            written = self.write(samples)
        with watch.stage("select"):
            captions = [one.captions for one in written]
            questions = [sample.query.text for sample in samples]
            shares = [sample.kept_share for sample in samples]
            features, scores = self.score(questions, captions, shares)
            rows = scores.tolist()
            if self.selector.silence is not None:
                captions = [[*texts, SILENCE] for texts in captions]
        return [
            Compensation(**vars(one) | {"captions": texts}, **chosen)
            for one, texts, chosen in zip(written, captions, _chosen(features, rows))
        ]

    def score(
        self,
        questions: list[str],
        captions: list[list[str]],
        kept_shares: list[float] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns LongCLIP's features (B, W, P) of candidate captions, and the selector's scores.

        The scores are (B, W), or (B, W + 1) with that of silence last where it may be chosen.
        """
        texts = [[selector_text(q, text) for text in row] for q, row in zip(questions, captions)]
        features = self.long_clip.candidate_features(texts)
        run = self._logits or self.selector
        if kept_shares is None or self.selector.silence is None:  # shares have no effect
            return features, run(features).float().softmax(dim=-1)
        shares = send(kept_shares, features.device)
        logits = run(features, shares).float()
        caution = F.pad(CAUTION * shares[:, None] ** 2, (logits.shape[1] - 1, 0))
        return features, (logits + caution).softmax(dim=-1)


def _chosen(features: Tensor, rows: list[list[float]]) -> list[dict]:
    """Returns the last fields of each sample's Compensation: features, scores, the highest."""
    return [
        {"features": of_sample, "scores": row, "chosen_index": row.index(max(row))}
        for of_sample, row in zip(features, rows)
    ]

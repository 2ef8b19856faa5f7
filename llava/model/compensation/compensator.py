"""From dropped tokens to the caption that the LLM reads, for a batch of samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Tokenizer

from llava.errors import TooLong
from llava.mm_utils import pad_left, rounds_by_rows, send
from llava.model.compensation.beam_search import BeamCandidates, beam_search
from llava.model.compensation.caption_model import CaptionModel, quicken
from llava.model.compensation.long_clip import LongClipText
from llava.model.compensation.selector import Selector, selector_text
from llava.model.compensation.supplement import Supplement
from llava.model.cuda import CudaGraphs
from llava.model.static_cache import StaticSessions
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.pruner import Needs

NUM_CANDIDATES = 3
MAX_CAPTION_LENGTH = 67  # tokens
STOP_TEXT = "."
SILENCE = ""  # the caption of a selector that chose none
# What the logit of silence gains for the share s of tokens that the LLM sees is CAUTION s^2: the more
# it sees, the clearer a caption has to be better than none. By validation scenes of the small model
# (3,024 questions): at half of the tokens 18% of the questions had a caption without it, of which
# none mended an answer and eight spoilt one; with it 0.1% have one. At a sixteenth it is 0.06.
CAUTION = 16.0

# The post-processing that transformers 4's decoder applied to GPT-2's texts by default, and version
# 5 no longer does.
_CLEAN_UP = {
    " .": ".",
    " ?": "?",
    " !": "!",
    " ,": ",",
    " ' ": "'",
    " n't": "n't",
    " 'm": "'m",
    " 's": "'s",
    " 've": "'ve",
    " 're": "'re",
}


@dataclass(frozen=True)
class Compensation:
    """The compensation written for one sample.

    Attributes:
        prefix: (prefix_length, D), the mapper's output.
        caption_prompt: (L, D), what GPT-2 read: [question ; prefix].
        question_ids: GPT-2 ids of the question.
        candidates: the beams, best first.
        captions: their texts, followed by SILENCE where the selector may choose it.
        features: (W, P), LongCLIP's features of the candidates.
        scores: of the captions, summing to 1.
        chosen_index: the highest score, the first of equals.
    """

    prefix: Tensor
    caption_prompt: Tensor
    question_ids: list[int]
    candidates: BeamCandidates
    captions: list[str]
    features: Tensor
    scores: list[float]
    chosen_index: int

    @property
    def chosen_caption(self) -> str:
        """The caption with the highest score; SILENCE where that was chosen."""
        return self.captions[self.chosen_index]

    @property
    def supplement(self) -> Supplement:
        """What the LLM is given: the chosen caption."""
        text = None if self.is_silent else self.chosen_caption
        return Supplement(text, tuple(self.captions), tuple(self.scores), self.chosen_index)

    @property
    def is_silent(self) -> bool:
        """Whether the selector chose to give the LLM no caption."""
        return self.chosen_index == len(self.candidates.ids)


class Compensator(nn.Module):
    """Caption model, LongCLIP and selector (arXiv 2508.01236); a CompensationModule.

    Attributes:
        needs: what the tower has to compute for it.
        max_length: tokens of a caption, at most.

    Args:
        caption_model: GPT-2 and its mapper; GPT-2 is changed to decode faster, see quicken.
        gpt_tokenizer: GPT-2's tokenizer.
        long_clip: LongCLIP's text tower.
        selector: scores the candidates.
        stop_id: ends a caption; None takes the id of ".", -1 lets every caption run to its limit.
        max_length: the limit, in tokens.
    """

    needs = Needs.PATCH_EMBEDS

    def __init__(
        self,
        caption_model: CaptionModel,
        gpt_tokenizer: GPT2Tokenizer,
        long_clip: LongClipText,
        selector: Selector,
        stop_id: int | None = None,
        max_length: int = MAX_CAPTION_LENGTH,
    ) -> None:
        super().__init__()
        quicken(caption_model.gpt)
        self.max_length = max_length
        self.caption_model = caption_model
        self.long_clip = long_clip
        self.selector = selector
        self.tokenizer = gpt_tokenizer
        self._stop_id = gpt_tokenizer.encode(STOP_TEXT)[0] if stop_id is None else stop_id
        self._static: StaticSessions | None = None
        self._prefix: CudaGraphs | None = None
        self._logits: CudaGraphs | None = None

    def use_cuda_graphs(self) -> None:
        """Makes the passes of all parts CUDA graphs on a GPU."""
        self._static = StaticSessions(self.caption_model.gpt)
        self._prefix = CudaGraphs(self.caption_model.prefix)
        self._logits = CudaGraphs(self.selector.forward)
        self.long_clip.use_cuda_graphs()

    def check_question(self, question: str) -> None:
        """Refuses a question that GPT-2 cannot read with prefix and caption after it.

        Raises:
            TooLong: too many tokens.
        """
        prefix = len(self.caption_model.clip_project.prefix_const)
        room = self.caption_model.gpt.config.n_positions - prefix - self.max_length
        length = len(self._question_ids(question))
        if length > room:
            raise TooLong(
                f"the question has {length} tokens for the caption model, which reads at most "
                f"{room}: shorten it, or give a shorter tower question beside it",
                "caption model",
                question,
                (length - room) / length,
            )

    def forward(
        self,
        dropped: list[Tensor],
        questions: list[str],
        watch: Stopwatch | None = None,
        kept_shares: list[float] | None = None,
    ) -> list[Compensation]:
        """Writes and chooses captions.

        Args:
            dropped: B tensors (M_b, P), the dropped tokens of each sample in index order.
            questions: B questions.
            watch: receives the times of "caption" and "select".
            kept_shares: K / N of each sample, which the score of silence depends on.
        """
        watch = watch or Stopwatch(dropped[0].device)
        with watch.stage("caption"):
            written = self._write(dropped, questions)
        with watch.stage("select"):
            captions = [captions for *_, captions in written]
            features, scores = self.score(questions, captions, kept_shares)
            rows = scores.tolist()
            if self.selector.silence is not None:
                written = [(*sample, [*captions, SILENCE]) for *sample, captions in written]
        return [
            Compensation(*(*sample, features[b], rows[b], rows[b].index(max(rows[b]))))
            for b, sample in enumerate(written)
        ]

    def _write(self, dropped: list[Tensor], questions: list[str]) -> list[tuple]:
        """Returns the first fields of each sample's Compensation, up to its captions."""
        prefixes = self._prefixes(dropped)
        question_ids = [self._question_ids(question) for question in questions]
        prompts = self.caption_model.embed_prompts(question_ids, prefixes)
        beams = beam_search(
            self.caption_model.gpt,
            *pad_left(prompts),
            stop_id=self._stop_id,
            beam_size=NUM_CANDIDATES,
            max_length=self.max_length,
            static=self._static,
        )
        captions = [[self.decode(ids) for ids in found.ids] for found in beams]
        return list(zip(prefixes, prompts, question_ids, beams, captions))

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

    def decode(self, ids: list[int]) -> str:
        """Decodes a caption; a leading space stays."""
        return decode_caption(self.tokenizer, ids)

    def _question_ids(self, question: str) -> list[int]:
        return self.tokenizer.encode(question, add_special_tokens=False)

    def _prefixes(self, dropped: list[Tensor]) -> Tensor:
        """Returns prefixes (B, prefix_length, D); samples with fewer dropped tokens are padded."""
        if rounds_by_rows(self.caption_model):
            return torch.cat([self.caption_model.prefix(rows[None]) for rows in dropped])
        tokens, mask = pad_left(dropped)
        alike = len({len(rows) for rows in dropped}) == 1
        prefix = self._prefix or self.caption_model.prefix
        return prefix(tokens, *([] if alike else [mask]))


def decode_caption(tokenizer: GPT2Tokenizer, ids: list[int]) -> str:
    """Decodes a caption as transformers 4 did; a leading space stays."""
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    for spaced, tight in _CLEAN_UP.items():
        text = text.replace(spaced, tight)
    return text

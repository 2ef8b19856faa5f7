"""Writes captions of dropped tokens for a batch of samples, with the caption model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import GPT2Tokenizer

from llava.errors import TooLong
from llava.mm_utils import pad_left, rounds_by_rows
from llava.model.compensation.beam_search import BeamCandidates, beam_search
from llava.model.compensation.caption_model import CaptionModel, quicken
from llava.model.compensation.supplement import Gives, PrunedSample, Supplement, TextQuery
from llava.model.cuda import CudaGraphs
from llava.model.language_model.tokenizer import Tokenizer
from llava.model.prompt_ids import caption_room
from llava.model.static_cache import StaticSessions
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.pruner import Needs

NUM_CANDIDATES = 3
MAX_CAPTION_LENGTH = 67  # tokens
STOP_TEXT = "."

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
class Written:
    """The captions written for one sample.

    Attributes:
        prefix: (prefix_length, D), the mapper's output.
        caption_prompt: (L, D), what GPT-2 read: [question ; prefix].
        question_ids: GPT-2 ids of the question.
        candidates: the beams, best first.
        captions: their texts.
    """

    prefix: Tensor
    caption_prompt: Tensor
    question_ids: list[int]
    candidates: BeamCandidates
    captions: list[str]

    @property
    def supplement(self) -> Supplement:
        """The supplement for the LLM: the first caption."""
        return Supplement(self.captions[0], tuple(self.captions), chosen=0)


class CaptionWriter(nn.Module):
    """The caption model with its search for captions (arXiv 2508.01236).

    Attributes:
        needs, gives: see CompensationModule.
        max_length: the largest number of tokens of a caption.

    Args:
        caption_model: GPT-2 and its mapper; GPT-2 is changed to decode faster, see quicken.
        gpt_tokenizer: GPT-2's tokenizer.
        stop_id: ends a caption; None takes the id of ".", -1 lets every caption run to its limit.
        max_length: the limit, in tokens.
    """

    needs = Needs.PATCH_EMBEDS
    gives = Gives.TEXT
    writes = "a caption"

    def __init__(
        self,
        caption_model: CaptionModel,
        gpt_tokenizer: GPT2Tokenizer,
        stop_id: int | None = None,
        max_length: int = MAX_CAPTION_LENGTH,
    ) -> None:
        super().__init__()
        quicken(caption_model.gpt)
        self.max_length = max_length
        self.caption_model = caption_model
        self.tokenizer = gpt_tokenizer
        self._stop_id = gpt_tokenizer.encode(STOP_TEXT)[0] if stop_id is None else stop_id
        self._static: StaticSessions | None = None
        self._prefix: CudaGraphs | None = None

    def use_cuda_graphs(self) -> None:
        """Turns the passes of all parts into CUDA graphs on a GPU."""
        self._static = StaticSessions(self.caption_model.gpt)
        self._prefix = CudaGraphs(self.caption_model.prefix)

    def parts(self) -> dict[str, nn.Module]:
        """Returns the modules whose matrix products have a form."""
        return {"gpt2": self.caption_model.gpt, "mapper": self.caption_model.clip_project}

    def room(self, query: TextQuery, tokenizer: Tokenizer) -> int:
        """Returns the positions of the LLM to keep free for a caption."""
        return caption_room(self.max_length, tokenizer)

    def check(self, query: TextQuery) -> None:
        """Refuses a question that GPT-2 cannot read with prefix and caption after it.

        Raises:
            TooLong: too many tokens.
        """
        prefix = len(self.caption_model.clip_project.prefix_const)
        room = self.caption_model.gpt.config.n_positions - prefix - self.max_length
        length = len(self._question_ids(query.text))
        if length > room:
            raise TooLong(
                f"the question has {length} tokens for the caption model, which reads at most "
                f"{room}: shorten it, or give a shorter tower question beside it",
                "caption model",
                query.text,
                (length - room) / length,
            )

    def write(self, samples: Sequence[PrunedSample]) -> list[Written]:
        """Writes NUM_CANDIDATES captions for each of B samples."""
        prefixes = self._prefixes([sample.dropped for sample in samples])
        question_ids = [self._question_ids(sample.query.text) for sample in samples]
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
        return [Written(*one) for one in zip(prefixes, prompts, question_ids, beams, captions)]

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


class FirstCaption(CaptionWriter):
    """Gives the LLM the caption of the best beam; a CompensationModule."""

    def forward(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[Written]:
        """Writes captions; see CompensationModule."""
        watch = watch or Stopwatch(next(self.parameters()).device)
        with watch.stage("caption"):
            return self.write(samples)


def decode_caption(tokenizer: GPT2Tokenizer, ids: list[int]) -> str:
    """Decodes a caption as transformers 4 did; a leading space stays."""
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    for spaced, tight in _CLEAN_UP.items():
        text = text.replace(spaced, tight)
    return text

"""Packs several questions about one image into one sequence, where none sees another.

    [prompt up to the image] [visual tokens] [newline] [caption] [question, answer] [question, ...

Image and caption are read once for all questions: each question's tokens attend to all that
precedes the first question, and to their own. Each question's positions continue from there, so
that it is asked exactly as it would be alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cachedmethod
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from llava.constants import IMAGE_TOKEN_INDEX
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.prompt import CAPTION_OFFSET, caption_ids, prompt_ids

IGNORED = -100  # label of a token that is not to be predicted


@dataclass(frozen=True)
class Packed:
    """One sequence of L tokens.

    Attributes:
        ids: IMAGE_TOKEN_INDEX for each visual token.
        positions: L numbers.
        blocks: 0 for the part that all questions see, else the number of the question.
        labels: the id to be predicted from a token (its successor), or IGNORED.
        asked: the same for the tokens within the questions.
    """

    ids: list[int]
    positions: list[int]
    blocks: list[int]
    labels: list[int]
    asked: list[int]


@dataclass(frozen=True)
class PackedBatch:
    """B sequences, padded on the right.

    Attributes:
        ids: (B, L) int64.
        positions: (B, L) int64.
        mask: (B, 1, L, L) bool, True where a token (third axis) attends to another.
        labels: (B, L) int64.
        asked: (B, L) int64.
        features: (visual tokens of all sequences, C), in their order.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor
    asked: Tensor
    features: Tensor

    @property
    def weight(self) -> float:
        """The number of answer tokens."""
        return int((self.labels != IGNORED).sum())

    def to(self, device: torch.device) -> PackedBatch:
        """Returns the batch on a device."""
        fields = (self.ids, self.positions, self.mask, self.labels, self.asked, self.features)
        return PackedBatch(*(field.to(device) for field in fields))


class Packer:
    """Turns texts into sequences.

    Args:
        tokenizer: the LLM's.
    """

    def __init__(self, tokenizer: LlamaTokenizer) -> None:
        self._tokenizer = tokenizer
        self._questions: LRUCache = LRUCache(2**17)
        self._captions: LRUCache = LRUCache(2**16)

    def pack(
        self, pairs: Sequence[tuple[str, str]], num_visual_tokens: int, caption: str | None
    ) -> Packed:
        """Returns one sequence of questions with answers.

        Args:
            pairs: the text after the image's newline in the prompt, and the answer.
            num_visual_tokens: number of tokens of the image.
            caption: read as "additional information"; None for none.
        """
        head, _, _ = self._question(*pairs[0])
        place = head.index(IMAGE_TOKEN_INDEX)
        ids = head[:place] + [IMAGE_TOKEN_INDEX] * num_visual_tokens + head[place + 1 :]
        if caption is not None:
            ids = ids + self._caption(caption)
        positions = list(range(len(ids)))
        blocks, labels, asked = [0] * len(ids), [IGNORED] * len(ids), [IGNORED] * len(ids)
        start = len(ids)
        for number, pair in enumerate(pairs, start=1):
            _, question, answer = self._question(*pair)
            block = question + answer
            ids = ids + block[:-1]  # nothing is predicted from the end-of-text
            positions += range(start, start + len(block) - 1)
            blocks += [number] * (len(block) - 1)
            labels += [IGNORED] * (len(question) - 1) + answer
            asked += question[1:] + [IGNORED] * len(answer)
        return Packed(ids, positions, blocks, labels, asked)

    def answer_ids(self, answer: str) -> list[int]:
        """Returns the ids of an answer and of the end-of-text."""
        return self._tokenizer.encode(answer)[1:] + [self._tokenizer.eos_token_id]

    @cachedmethod(lambda self: self._questions)
    def _question(self, question: str, answer: str) -> tuple[list[int], ...]:
        """Returns ids up to the image's newline, of the question, and of answer and end-of-text."""
        ids = prompt_ids(question, self._tokenizer)
        place = ids.index(IMAGE_TOKEN_INDEX) + CAPTION_OFFSET
        return ids[:place], ids[place:], self.answer_ids(answer)

    @cachedmethod(lambda self: self._captions)
    def _caption(self, caption: str) -> list[int]:
        return caption_ids(caption, self._tokenizer)


def collate(sequences: Sequence[Packed], features: Sequence[Tensor]) -> PackedBatch:
    """Collates sequences into one batch.

    Args:
        sequences: B of them.
        features: for each, its visual tokens (K, C).
    """
    length = max(len(packed.ids) for packed in sequences)

    def rows(name: str, fill: int) -> Tensor:
        values = [getattr(packed, name) for packed in sequences]
        return torch.tensor([row + [fill] * (length - len(row)) for row in values])

    blocks = rows("blocks", -1)
    own = blocks[:, :, None] == blocks[:, None, :]
    mask = (own | (blocks == 0)[:, None, :]).tril()
    return PackedBatch(
        ids=rows("ids", 0),
        positions=rows("positions", 0),
        mask=mask[:, None],
        labels=rows("labels", IGNORED),
        asked=rows("asked", IGNORED),
        features=torch.cat(list(features)),
    )


def run_llm(llm: LlamaForCausalLM, projector: nn.Module, batch: PackedBatch) -> Tensor:
    """Returns the LLM's last hidden states (B, L, D) of a batch."""
    visual = batch.ids == IMAGE_TOKEN_INDEX
    embeds = llm.get_input_embeddings()(batch.ids.masked_fill(visual, 0))
    if len(batch.features):
        weight = next(projector.parameters())
        projected = projector(batch.features.to(weight.dtype)).to(embeds.dtype)
        embeds = embeds.masked_scatter(visual.unsqueeze(-1), projected)
    return llm.model(
        inputs_embeds=embeds,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state


def predict(llm: LlamaForCausalLM, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns logits (tokens, V) float32 where labels (B, L) are not IGNORED, and these labels."""
    wanted = labels != IGNORED
    return llm.lm_head(hidden[wanted]).float(), labels[wanted]

"""Several questions about one image in one sequence, none of which sees another.

    [prompt up to the image] [visual tokens] [newline] [caption] [question, answer] [question, ...

Image and caption are read once for all questions: each question's tokens see what stands in front
of the first question, and their own. Positions go on from there for each question, so that it is
asked exactly as it would be alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from llava.constants import IMAGE_TOKEN_INDEX
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.prompt import CAPTION_OFFSET, prompt_ids

IGNORED = -100  # label of a token that is not to be predicted


@dataclass(frozen=True)
class Packed:
    """One sequence of L tokens.

    Attributes:
        ids: IMAGE_TOKEN_INDEX for each visual token.
        positions: L numbers.
        blocks: 0 for what all questions see, else the number of the question.
        labels: the id that a token is to be answered with (its successor), or IGNORED.
    """

    ids: list[int]
    positions: list[int]
    blocks: list[int]
    labels: list[int]


@dataclass(frozen=True)
class PackedBatch:
    """B sequences, padded on the right.

    Attributes:
        ids: (B, L) int64.
        positions: (B, L) int64.
        mask: (B, 1, L, L) bool, True where a token (third axis) sees another.
        labels: (B, L) int64.
        features: (visual tokens of all sequences, C), in their order.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor
    features: Tensor

    @property
    def weight(self) -> float:
        """Tokens to be predicted."""
        return int((self.labels != IGNORED).sum())

    def to(self, device: torch.device) -> PackedBatch:
        fields = (self.ids, self.positions, self.mask, self.labels, self.features)
        return PackedBatch(*(field.to(device) for field in fields))


class Packer:
    """Texts to sequences.

    Args:
        tokenizer: the LLM's.
    """

    def __init__(self, tokenizer: LlamaTokenizer) -> None:
        self._tokenizer = tokenizer
        self._question = lru_cache(maxsize=2**17)(self._encode_question)
        self._caption = lru_cache(maxsize=2**16)(self._encode_caption)

    def pack(
        self, pairs: Sequence[tuple[str, str]], num_visual_tokens: int, caption: str | None
    ) -> Packed:
        """One sequence of questions with answers.

        Args:
            pairs: what follows the image's newline in the prompt, and the answer.
            num_visual_tokens: how many tokens stand for the image.
            caption: read as "additional information"; None for none.
        """
        head, _, _ = self._question(*pairs[0])
        place = head.index(IMAGE_TOKEN_INDEX)
        ids = head[:place] + [IMAGE_TOKEN_INDEX] * num_visual_tokens + head[place + 1 :]
        if caption is not None:
            ids = ids + self._caption(caption)
        positions = list(range(len(ids)))
        blocks, labels = [0] * len(ids), [IGNORED] * len(ids)
        start = len(ids)
        for number, pair in enumerate(pairs, start=1):
            _, question, answer = self._question(*pair)
            block = question + answer
            ids = ids + block[:-1]  # nothing is predicted from the end-of-text
            positions += range(start, start + len(block) - 1)
            blocks += [number] * (len(block) - 1)
            labels += [IGNORED] * (len(question) - 1) + answer
        return Packed(ids, positions, blocks, labels)

    def _encode_question(self, question: str, answer: str) -> tuple[list[int], ...]:
        """Ids up to the image's newline, of the question, and of answer and end-of-text."""
        ids = prompt_ids(question, self._tokenizer)
        place = ids.index(IMAGE_TOKEN_INDEX) + CAPTION_OFFSET
        answer_ids = self._tokenizer.encode(answer)[1:] + [self._tokenizer.eos_token_id]
        return ids[:place], ids[place:], answer_ids

    def _encode_caption(self, caption: str) -> list[int]:
        return self._tokenizer.encode(f"additional information: {caption}")[1:]


def collate(sequences: Sequence[Packed], features: Sequence[Tensor]) -> PackedBatch:
    """Puts sequences into one batch.

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
        features=torch.cat(list(features)),
    )

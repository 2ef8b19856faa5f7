"""Packs several questions about one image into one sequence, where none sees another.

    [prompt up to the image] [visual tokens] [newline] [caption] [question, answer] [question, ...

Image and caption are read once for all questions: each question's tokens attend to all that
precedes the first question, and to their own. Each question's positions continue from there, so
that it is asked exactly as it would be alone. The frozen LLM reads sequences of one question: the
selector and the self-supervised stage learn from the probabilities of the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cachedmethod
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from llava.constants import IMAGE_TOKEN_INDEX
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.language_model.tokenizer import Tokenizer
from llava.model.prompt_ids import CAPTION_OFFSET, caption_ids, prompt_ids
from llava.train.batches import TensorBatch

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
class PackedBatch(TensorBatch):
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


class Packer:
    """Turns texts into sequences.

    Args:
        tokenizer: the LLM's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
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
        return self._tokenizer.encode_more(answer) + [self._tokenizer.eos_token_id]

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


@dataclass(frozen=True)
class Reading:
    """One input of the LLM, with the answer whose probability is asked for.

    Attributes:
        features: (K, C) visual tokens, as the tower gives them.
        caption: read as "additional information"; None for none.
        question: what follows the image in the prompt.
        answer: its text.
    """

    features: Tensor
    caption: str | None
    question: str
    answer: str


@torch.no_grad()
def answer_log_probs(
    model: LanguageModel, packer: Packer, readings: Sequence[Reading], batch_size: int
) -> list[Tensor]:
    """Returns the log-probabilities of all tokens at the positions of the answers' tokens.

    Args:
        model: the LLM, frozen.
        packer: turns texts into sequences.
        readings: B of them.
        batch_size: readings per batch; those of similar length are batched together.

    Returns:
        B tensors (A_b, V) float32, A_b counting the end-of-text.
    """
    packed = [packer.pack([(r.question, r.answer)], len(r.features), r.caption) for r in readings]
    order = sorted(range(len(packed)), key=lambda i: len(packed[i].ids))
    results: dict[int, Tensor] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collate([packed[i] for i in chosen], [readings[i].features for i in chosen])
        results.update(zip(chosen, _log_probs(model, batch)))
    return [results[i] for i in range(len(packed))]


def is_likeliest(log_probs: Tensor, ids: Sequence[int]) -> bool:
    """Returns whether greedy decoding would write these ids; log_probs is (A, V)."""
    return log_probs.argmax(dim=-1).tolist() == list(ids)


def _log_probs(model: LanguageModel, batch: PackedBatch) -> list[Tensor]:
    """Returns log-probabilities (A, V) for each of a batch's sequences of one question."""
    batch = batch.to(next(model.projector.parameters()).device)
    hidden = run_llm(model.llm, model.projector, batch)
    logits, _ = predict(model.llm, hidden, batch.labels)
    counts = (batch.labels != IGNORED).sum(dim=1).tolist()
    return list(logits.log_softmax(dim=-1).split(counts))

"""LongCLIP's text tower of the mini model.

The real model gets its LongCLIP ready-made. The selector needs an embedding of
"Question: ...  Supplemental information for questions: ..." that encodes the question and the
caption; a tower this small has to be taught that. Linear heads (discarded afterwards) predict from
each embedding which objects the question and the caption name, and whether the caption names what
the question asks about. No picture and no answer is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llava.mini.scene import COLORS, SHAPES
from llava.mini.stages.arguments import LongClipArguments
from llava.mini.training_set import TrainingSet, read_training_set
from llava.model.compensation.long_clip import LongClipText, build_text_tower
from llava.model.compensation.selector import selector_text
from llava.model.shapes import MINI
from llava.train.batches import TensorBatch
from llava.train.captions import tower_questions
from llava.train.closing import command_line, finish
from llava.train.provenance import hashes_of
from llava.train.pruning import draw
from llava.train.stage import check_given, open_stage
from llava.train.trainer import train

_OBJECT = re.compile(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b")
_WORDS = (*COLORS, *SHAPES)
INITIAL_STD = 0.02


@dataclass(frozen=True)
class TextBatch(TensorBatch):
    """B questions with captions.

    Attributes:
        texts: what the tower reads.
        asked: (B, 14) 1 for each colour and shape that the question names.
        told: (B, 48) 1 for each object that the caption names.
        related: (B,) 1 where the caption names what the question asks about.
    """

    texts: list[str]
    asked: Tensor
    told: Tensor
    related: Tensor


def named_words(question: str) -> list[str]:
    """Returns the colours and shapes that the first line of a question names."""
    return [word for word in re.findall(r"[a-z]+", question.split("\n")[0]) if word in _WORDS]


def is_related(question: str, caption: str) -> bool:
    """Returns whether a caption names an object with all colours and shapes of a question.

    Of a question about two objects (a relation) either counts.
    """
    told = [set(pair) for pair in _OBJECT.findall(caption)]
    objects = [set(pair) for pair in _OBJECT.findall(question.split("\n")[0])]
    wanted = objects or [set(named_words(question))]
    return any(want and want <= tell for want in wanted for tell in told)


class LongClipObjective(nn.Module):
    """The objective of the stage: the text tower with the linear heads that teach it.

    Args:
        text: the tower with its tokenizer.
        width: of the embeddings.
    """

    def __init__(self, text: LongClipText, width: int) -> None:
        super().__init__()
        self.text = text
        self.asked = nn.Linear(width, len(_WORDS))
        self.told = nn.Linear(width, len(COLORS) * len(SHAPES))
        self.related = nn.Linear(width, 1)

    def forward(self, batch: TextBatch) -> dict[str, Tensor]:
        """Sums losses over texts; "accuracy" is that of "related"."""
        embeds = self.text(batch.texts)
        related = self.related(embeds).squeeze(-1)
        parts = [
            F.binary_cross_entropy_with_logits(self.asked(embeds), batch.asked, reduction="none"),
            F.binary_cross_entropy_with_logits(self.told(embeds), batch.told, reduction="none"),
        ]
        loss = F.binary_cross_entropy_with_logits(related, batch.related, reduction="sum")
        loss = loss + sum(part.sum(dim=1).sum() for part in parts)
        right = ((related > 0) == (batch.related > 0.5)).sum().float()
        return {"loss": loss, "accuracy": right}


@dataclass(frozen=True, eq=False)
class LongClipData:
    """Questions of the training set, each with a caption of its own scene.

    Attributes:
        texts: the training set.
    """

    texts: TrainingSet

    def __len__(self) -> int:
        return len(self.texts.images)

    def collate(self, indices: list[int], generator: torch.Generator) -> TextBatch:
        """Returns a batch of texts."""
        rows = []
        for index in indices:
            pair = draw(self.texts.conversations[index].pairs, generator)
            question = draw(tower_questions(pair[0]), generator)
            rows.append((question, draw(self.texts.captions[index], generator)))
        return text_batch(rows)

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's entries."""
        return ", ".join(self.texts.images[index] for index in indices)


def text_batch(rows: Sequence[tuple[str, str]]) -> TextBatch:
    """Makes a batch of (question, caption) pairs."""
    asked = torch.zeros(len(rows), len(_WORDS))
    told = torch.zeros(len(rows), len(COLORS) * len(SHAPES))
    for place, (question, caption) in enumerate(rows):
        for word in named_words(question):
            asked[place, _WORDS.index(word)] = 1
        for color, shape in _OBJECT.findall(caption):
            told[place, COLORS.index(color) * len(SHAPES) + SHAPES.index(shape)] = 1
    related = torch.tensor([float(is_related(*row)) for row in rows])
    return TextBatch([selector_text(*row) for row in rows], asked, told, related)


def new_long_clip(seed: int) -> LongClipText:
    """Returns an untrained text tower of the mini model's shape."""
    torch.manual_seed(seed)
    tower = build_text_tower(**MINI.long_clip)
    nn.init.normal_(tower.text_projection, std=MINI.long_clip["width"] ** -0.5)
    return LongClipText(tower, MINI.long_clip["context_length"])


def long_clip_tensors(text: LongClipText) -> dict[str, Tensor]:
    """Returns the tower as in the published file: two tables of positions, here the same twice."""
    tensors = dict(text.tower.state_dict())
    tensors = {name: t for name, t in tensors.items() if name != "attn_mask"}
    return tensors | {"positional_embedding_res": tensors["positional_embedding"]}


def train_long_clip(args: LongClipArguments) -> int:
    """Runs the stage."""
    check_given(args, "data", "output_dir", "output")
    with open_stage("train_long_clip", args) as stage:
        folder = Path(args.data)
        text = new_long_clip(args.seed)
        inputs = {"data": folder / "conversations.json"}
        chosen = {"shape": MINI.long_clip, "inputs": {k: hashes_of(p) for k, p in inputs.items()}}
        objective = LongClipObjective(text, MINI.long_clip["embed_dim"])
        train(stage, objective, LongClipData(read_training_set(folder)), chosen)
        use = command_line("llava.train.train_selector", longclip=Path(args.output))
        weights = {Path(args.output): long_clip_tensors(text)}
        return finish(stage, chosen, inputs, use, weights)

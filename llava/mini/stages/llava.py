"""LLaVA's second stage, for the mini model: projector and LLM learn to answer.

They read pictures, pictures with captions, captions alone. Pruned pictures without a caption and no
picture at all are among them; else part of pruning's cost would be unfamiliar input, not lost
information. A first run may show descriptions alone (--shares 0 0 0 1 0): looking things up in text
is learnt sooner than in pictures, and then found there again. The real model gets its LLaVA-1.5
ready-made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from llava.errors import UserError
from llava.mini.language import (
    CAPTION_PROMPT,
    describe,
    falsify,
    letter_exercise,
    statements,
)
from llava.mini.stages.arguments import SIGHTS, LlavaArguments
from llava.mini.stages.mini_llava import load_llava, mini_features, model_files, save_llava
from llava.mini.training_set import TrainingSet, read_training_set
from llava.model.builder import load_vision
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.multimodal_encoder.builder import Vision
from llava.model.multimodal_encoder.visual_tokens import needed
from llava.train.arguments import model_arguments
from llava.train.captions import tower_questions
from llava.train.closing import command_line, finish
from llava.train.features import ImageFeatures, encode_questions, vision_settings
from llava.train.newlines import read_features
from llava.train.packing import PackedBatch, Packer, collate, predict, run_llm
from llava.train.provenance import hashes_of
from llava.train.pruning import Pruner, draw
from llava.train.stage import check_given, open_stage
from llava.train.trainer import train

WITHOUT_IMAGE = ("described", "nothing")  # of SIGHTS


class LlavaObjective(nn.Module):
    """The objective of the stage: the LLM answers packed questions.

    Args:
        llm: transformers' Llama.
        projector: maps tower features to LLM embeddings.
        question_share: weight of a question's token relative to an answer's. Questions ask mostly
            about what is there, so learning to predict them is learning to look.
    """

    def __init__(
        self, llm: LlamaForCausalLM, projector: nn.Module, question_share: float = 0.0
    ) -> None:
        super().__init__()
        self.llm = llm
        self.projector = projector
        self.question_share = question_share

    def forward(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Sums cross-entropy over tokens; counts the answers' tokens that were the likeliest."""
        hidden = run_llm(self.llm, self.projector, batch)
        logits, labels = predict(self.llm, hidden, batch.labels)
        answers = F.cross_entropy(logits, labels, reduction="sum")
        words = F.cross_entropy(*predict(self.llm, hidden, batch.asked), reduction="sum")
        right = (logits.argmax(-1) == labels).sum().float()
        return {"loss": answers + self.question_share * words, "answers": answers, "right": right}


@dataclass(eq=False)
class LlavaData:
    """Images with questions, captions and descriptions, packed.

    Attributes:
        texts: the training set.
        features: of its images; None where the shares show no image.
        pruner: chooses tokens for the first question of a sequence; None likewise.
        packer: turns texts into sequences.
        args: what a sequence shows and asks.
    """

    texts: TrainingSet
    features: ImageFeatures | None
    pruner: Pruner | None
    packer: Packer
    args: LlavaArguments

    def __post_init__(self) -> None:
        self._shares = torch.tensor(self.args.shares)
        # All captions of an image are answers to the request for one; statements teach through
        # their words, which are predicted too.
        of_images = zip(self.texts.conversations, self.texts.captions, self.texts.scenes)
        self._pairs = [
            [pair for pair in conversation.pairs if pair[0] != CAPTION_PROMPT]
            + [(CAPTION_PROMPT, text) for text in captions]
            + statements(things)
            for conversation, captions, things in of_images
        ]

    def __len__(self) -> int:
        return len(self.texts.conversations)

    def collate(self, indices: list[int], generator: torch.Generator) -> PackedBatch:
        """Returns a batch of sequences."""
        sequences, features = [], []
        for index in indices:
            sight = SIGHTS[int(torch.multinomial(self._shares, 1, generator=generator))]
            pairs = self._pairs[index]
            order = torch.randperm(len(pairs), generator=generator)
            order = order[: self.args.questions_per_image]
            chosen = [pairs[i] for i in order.tolist()]
            seen = self._look(index, sight, chosen[0][0], generator)
            hint = self._hint(index, sight, generator)
            chosen += [
                letter_exercise(_numpy_generator(generator)) for _ in range(self.args.exercises)
            ]
            sequences.append(self.packer.pack(chosen, len(seen), hint))
            features.append(seen)
        return collate(sequences, features)

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's entries."""
        return ", ".join(self.texts.conversations[index].id for index in indices)

    def _look(self, index: int, sight: str, question: str, generator: torch.Generator) -> Tensor:
        """Returns the visual tokens (K, C) that are shown."""
        if self.features is None or self.pruner is None:
            return torch.empty(0, 0)
        image = self.features.image(index)
        num_tokens = len(image.features)
        kept_idx = torch.arange(num_tokens)
        if sight == "full" and self.args.focus is not None:
            kept_idx = needed(image.cls_attention).topk(self.args.focus).indices.sort().values
        elif sight in WITHOUT_IMAGE:
            kept_idx = kept_idx[:0]
        elif sight != "full":
            budget = num_tokens // draw(self.args.one_in, generator)
            budget = max(1, min(budget, num_tokens - 1))
            topic = tower_questions(question)[0]
            kept_idx = self.pruner.select(image, topic, budget, generator).kept_idx
        return read_features(image, kept_idx)

    def _hint(self, index: int, sight: str, generator: torch.Generator) -> str | None:
        if sight == "compensated":
            caption, share = draw(self.texts.captions[index], generator), self.args.false_phrases
            return falsify(caption, share, _numpy_generator(generator)) if share else caption
        if sight != "described":
            return None
        phrases = [describe(thing) for thing in self.texts.scenes[index]]
        order = torch.randperm(len(phrases), generator=generator).tolist()
        return " and ".join(phrases[i] for i in order) + "."


def _numpy_generator(generator: torch.Generator) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))


def encode_topics(seen: Vision, texts: TrainingSet) -> dict[str, Tensor]:
    """Returns the text tower's embeddings of all possible questions."""
    asked = {q for conversation in texts.conversations for q, _ in conversation.pairs}
    asked.update(q for things in texts.scenes for q, _ in statements(things))
    topics = {tower_questions(question)[0] for question in asked | {CAPTION_PROMPT}}
    return encode_questions(seen.tower, seen.tokenizer, sorted(topics))


def check_shares(shares: Sequence[float]) -> None:
    """Refuses shares that cannot be drawn from.

    Raises:
        UserError: says what is wrong.
    """
    if len(shares) != len(SIGHTS) or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise UserError(
            f"--shares is {' '.join(map(str, shares))}: give {len(SIGHTS)} numbers for "
            f"{', '.join(SIGHTS)}: none below 0, and not all of them 0"
        )


def shows_images(shares: Sequence[float]) -> bool:
    """Returns whether any of SIGHTS with a share above 0 has visual tokens."""
    return any(share and sight not in WITHOUT_IMAGE for share, sight in zip(shares, SIGHTS))


def check_flags(args: LlavaArguments) -> None:
    """Refuses invalid flags, and those about captions or pictures where none are shown.

    Raises:
        UserError: says which.
    """
    check_shares(args.shares)
    about = "vision_tower features dtype patch_post_layernorm text_selection checkpoints_root"
    unseen = [] if shows_images(args.shares) else about.split()
    if not args.shares[SIGHTS.index("full")]:
        unseen.append("focus")
    defaults = LlavaArguments()
    given = [name for name in unseen if getattr(args, name) != getattr(defaults, name)]
    if given:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"{flags} would do nothing with these --shares: leave them out")
    if not args.one_in or min(args.one_in) < 1:
        numbers = " ".join(map(str, args.one_in))
        raise UserError(f"--one-in is {numbers or 'empty'}: say numbers from 1 on")
    if not 0 <= args.false_phrases <= 1:
        raise UserError(f"--false-phrases is {args.false_phrases}: say a share from 0 to 1")
    if args.false_phrases and not args.shares[SIGHTS.index("compensated")]:
        raise UserError("--false-phrases would do nothing: these --shares show no captions")


def train_llava(args: LlavaArguments) -> int:
    """Runs the stage."""
    check_given(args, "model_path", "data", "output_dir", "output")
    check_flags(args)
    with open_stage("train_llava", args) as stage:
        source, folder, run = Path(args.model_path), Path(args.data), Path(args.output_dir)
        texts = read_training_set(folder)
        llm, projector = load_llava(source, args.seed)
        inputs = {"data": folder / "conversations.json"} | model_files(source)
        features, pruner, chosen = None, None, {}
        if shows_images(args.shares):
            seen = load_vision(model_arguments(args))
            inputs["vision_tower"] = seen.folder
            pruner = Pruner(encode_topics(seen, texts), seen.text_selection == "nearest")
            cache = Path(args.features or run / "features")
            features = mini_features(folder, cache, texts, seen, stage.team)
            chosen = vision_settings(seen) | {"text_selection": seen.text_selection}
        data = LlavaData(texts, features, pruner, Packer(LlamaTokenizer(source)), args)
        chosen |= dict(inputs={name: hashes_of(path) for name, path in inputs.items()})
        objective = LlavaObjective(llm, projector, args.question_share)
        train(stage, objective, data, chosen)
        write = partial(save_llava, llm, projector, source, Path(args.output))
        parts = dict(model_path=args.output, vision_tower=args.vision_tower)
        use = command_line("llava.train.train_projector", **parts)
        if shows_images(args.shares):  # it can answer questions
            use = command_line("llava.serve.cli", **parts, no_compensation=True)
        return finish(stage, chosen, inputs, use, write)

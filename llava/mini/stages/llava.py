"""LLaVA's second stage, for the mini model: projector and LLM learn to answer.

They read pictures, pictures with captions, captions alone. Pruned pictures without a caption and no
picture at all are among them; else part of pruning's cost would be unfamiliar input, not lost
information. A first run may show descriptions alone (--shares 0 0 0 1 0): looking things up in text
is learnt sooner than in pictures, and then found there again. The real model gets its LLaVA-1.5
ready-made.
"""

from __future__ import annotations

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
from llava.mini.scene import Thing
from llava.mini.stages.arguments import ONE_IN, SIGHTS, LlavaArguments
from llava.mini.stages.mini_llava import load_llava, mini_features, model_files, save_llava
from llava.mini.stages.sights import (
    WITHOUT_IMAGE,
    check_pruned,
    check_shares,
    check_sight,
    shows_images,
)
from llava.mini.training_set import TrainingSet, read_training_set
from llava.model.builder import load_vision
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.multimodal_encoder.builder import Vision
from llava.model.multimodal_encoder.visual_tokens import needed
from llava.train.arguments import model_arguments
from llava.train.captions import tower_questions
from llava.train.closing import command_line, finish
from llava.train.conversations import Conversation
from llava.train.features import ImageFeatures, encode_questions, vision_settings
from llava.train.packing import PackedBatch, Packer, collate, predict, run_llm
from llava.train.provenance import hashes_of
from llava.train.pruning import Pruner, draw
from llava.train.stage import Stage, open_stage
from llava.train.trainer import train


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
        conversations: one per image.
        captions: of each image.
        scenes: the objects of each image.
        features: of the images; None where the shares show no image.
        pruner: chooses tokens for the first question of a sequence; None likewise.
        packer: turns texts into sequences.
        questions_per_image: questions of one sequence.
        shares: how often each of SIGHTS is shown.
        focus: number of tokens for "full"; None for all.
        exercises: letter exercises in every sequence.
        false_phrases: how often a phrase of a shown caption is false in one attribute.
        one_in: a pruned image keeps 1/one_in of its tokens; the values are drawn uniformly.
    """

    conversations: Sequence[Conversation]
    captions: Sequence[list[str]]
    scenes: Sequence[list[Thing]]
    features: ImageFeatures | None
    pruner: Pruner | None
    packer: Packer
    questions_per_image: int
    shares: Sequence[float]
    focus: int | None
    exercises: int
    false_phrases: float = 0.0
    one_in: Sequence[int] = ONE_IN

    def __post_init__(self) -> None:
        self._shares = torch.tensor(self.shares)
        # All captions of an image are answers to the request for one; statements teach through
        # their words, which are predicted too.
        self._pairs = [
            [pair for pair in conversation.pairs if pair[0] != CAPTION_PROMPT]
            + [(CAPTION_PROMPT, text) for text in texts]
            + statements(things)
            for conversation, texts, things in zip(self.conversations, self.captions, self.scenes)
        ]

    def __len__(self) -> int:
        return len(self.conversations)

    def collate(self, indices: list[int], generator: torch.Generator) -> PackedBatch:
        """Returns a batch of sequences."""
        sequences, features = [], []
        for index in indices:
            sight = SIGHTS[int(torch.multinomial(self._shares, 1, generator=generator))]
            pairs = self._pairs[index]
            order = torch.randperm(len(pairs), generator=generator)[: self.questions_per_image]
            chosen = [pairs[i] for i in order.tolist()]
            seen = self._look(index, sight, chosen[0][0], generator)
            hint = self._hint(index, sight, generator)
            chosen += [self._letter_exercise(generator) for _ in range(self.exercises)]
            sequences.append(self.packer.pack(chosen, len(seen), hint))
            features.append(seen)
        return collate(sequences, features)

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's entries."""
        return ", ".join(self.conversations[index].id for index in indices)

    def _letter_exercise(self, generator: torch.Generator) -> tuple[str, str]:
        return letter_exercise(_numpy_generator(generator))

    def _falsified(self, caption: str, generator: torch.Generator) -> str:
        return falsify(caption, self.false_phrases, _numpy_generator(generator))

    def _look(self, index: int, sight: str, question: str, generator: torch.Generator) -> Tensor:
        """Returns the visual tokens (K, C) that are shown."""
        if self.features is None or self.pruner is None:
            return torch.empty(0, 0)
        image = self.features.image(index)
        features = image.features
        if sight == "full":
            if self.focus is None:
                return features
            return features[needed(image.cls_attention).topk(self.focus).indices.sort().values]
        if sight in WITHOUT_IMAGE:
            return features[:0]
        budget = len(features) // draw(self.one_in, generator)
        budget = max(1, min(budget, len(features) - 1))
        topic = tower_questions(question)[0]
        return features[self.pruner.select(image, topic, budget, generator).kept_idx]

    def _hint(self, index: int, sight: str, generator: torch.Generator) -> str | None:
        if sight == "compensated":
            caption = draw(self.captions[index], generator)
            return self._falsified(caption, generator) if self.false_phrases else caption
        if sight != "described":
            return None
        phrases = [describe(thing) for thing in self.scenes[index]]
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


def train_llava(args: LlavaArguments) -> int:
    """Runs the stage."""
    if None in (args.model_path, args.data, args.output, args.output_dir):
        raise UserError("name --model-path, --data, --output-dir and --output")
    check_shares(args.shares)
    check_sight(args)
    check_pruned(args)
    with open_stage("train_llava", args) as stage:
        return _train(stage, args)


def _train(stage: Stage, args: LlavaArguments) -> int:
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
    data = LlavaData(
        texts.conversations,
        texts.captions,
        texts.scenes,
        features,
        pruner,
        Packer(LlamaTokenizer(source)),
        args.questions_per_image,
        args.shares,
        args.focus,
        args.exercises,
        args.false_phrases,
        args.one_in,
    )
    chosen |= dict(inputs={name: hashes_of(path) for name, path in inputs.items()})
    objective = LlavaObjective(llm, projector, args.question_share)
    train(stage, objective, data, chosen)
    write = partial(save_llava, llm, projector, source, Path(args.output))
    return finish(stage, chosen, inputs, _use(args), write)


def _use(args: LlavaArguments) -> str:
    """Returns the use of the weights: questions or, if they saw no picture, the next stage."""
    parts = dict(model_path=args.output, vision_tower=args.vision_tower)
    if shows_images(args.shares):
        return command_line("llava.serve.cli", **parts, no_compensation=True)
    return command_line("llava.train.train_projector", **parts)

"""Single questions with short answers, and the inputs to ask a frozen model about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llava.arguments import ModelArguments
from llava.budgets import AskedBudget
from llava.compensations import NOTHING
from llava.errors import UserError
from llava.model.backbones.llava_next import LlavaNext
from llava.model.builder import load_from_arguments, load_vision
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.loading.fingerprint import fingerprint
from llava.model.loading.locate import locate
from llava.model.loading.weights import weight_files
from llava.train.arguments import SHORT
from llava.train.batches import TensorBatch
from llava.train.captions import check_image_file, read_conversations, tower_questions
from llava.train.distributed import Team
from llava.train.features import (
    ImageFeatures,
    encode_questions,
    image_features,
    vision_settings,
)
from llava.train.newlines import NewlineProjector, read_features
from llava.train.pruning import Pruner, check_budgets, described, draw


@dataclass(frozen=True)
class ShortQuestion:
    """One question about one image.

    Attributes:
        number: of the sample.
        image: path below the image folder.
        question: the text after the image in the prompt.
        tower_question: the part that text tower, caption model and selector read.
        answer: as in the data.
    """

    number: int
    image: str
    question: str
    tower_question: str
    answer: str


def read_short_questions(
    path: Path, count: int, seed: int, words: int = SHORT
) -> list[ShortQuestion]:
    """Draws questions with short answers from instruction data, each asked on its own.

    Args:
        path: LLaVA's format.
        count: number of questions; all, if there are fewer.
        seed: decides which ones, and which part of a question with options ACCM reads.
        words: what a short answer has at most.

    Raises:
        UserError: the file has another format or no short answers; or the count or the number of
            words is 0.
    """
    if words < 1:
        raise UserError(f"--answer-words is {words}: it must be at least 1")
    if count < 1:
        raise UserError(f"--samples is {count}: it must be at least 1")
    found = [
        (entry.image, question, answer)
        for entry in read_conversations(path)
        if entry.image is not None
        for question, answer in entry.pairs
        if len(answer.split()) <= words
    ]
    if not found:
        raise UserError(f"{path} has no question about an image with a short answer")
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(found))[:count]
    samples = []
    for number, place in enumerate(chosen.tolist()):
        image, question, answer = found[place]
        forms = tower_questions(question)
        form = forms[int(generator.integers(len(forms)))]
        samples.append(ShortQuestion(number, image, question, form, answer))
    return samples


@dataclass(frozen=True)
class Look(TensorBatch):
    """An image as pruned for a question, float32 on the CPU.

    Attributes:
        all: (N, C), the LLM's input without pruning.
        kept: (K, C), its input with pruning.
        dropped: (N - K, P), the caption model's input.
    """

    all: Tensor
    kept: Tensor
    dropped: Tensor

    @property
    def kept_share(self) -> float:
        """The share K / N of the tokens that are kept."""
        return len(self.kept) / len(self.all)


@dataclass(frozen=True)
class AskedImages:
    """Questions with the tower's outputs for their images.

    Attributes:
        samples: the questions.
        features: of the different images.
        places: image -> its index in the features.
        pruner: chooses tokens for the questions.
        settings: all that these depend on besides the tower's folder, JSON.
        vision_tower: folder of the tower.
    """

    samples: Sequence[ShortQuestion]
    features: ImageFeatures
    places: dict[str, int]
    pruner: Pruner
    settings: dict
    vision_tower: Path

    def look(self, number: int, budget: AskedBudget | Sequence[AskedBudget], seed: int) -> Look:
        """Prunes the image of a sample to a budget, or to one of several."""
        sample = self.samples[number]
        image = self.features.image(self.places[sample.image])
        generator = torch.Generator().manual_seed(seed)
        kept = budget if isinstance(budget, (int, str)) else draw(budget, generator)
        pruned = self.pruner.select(image, sample.tower_question, kept, generator)
        return Look(
            all=read_features(image, torch.arange(len(image.features))),
            kept=read_features(image, pruned.kept_idx),
            dropped=described(image, pruned),
        )


def load_asked_images(
    args: ModelArguments,
    team: Team,
    samples: Sequence[ShortQuestion],
    folder: Path,
    cache: Path,
    budget: AskedBudget | Sequence[AskedBudget],
) -> AskedImages:
    """Encodes the images and questions of samples.

    Args:
        args: the model's flags.
        team: the processes; the first one computes.
        samples: the questions.
        folder: of the images.
        cache: keeps the tower's outputs.
        budget: of the pruning, or several, to be checked.

    Raises:
        UserError: an image is missing, or a budget does not fit.
    """
    seen = load_vision(args)
    asked = [budget] if isinstance(budget, (int, str)) else budget
    flag = "--budgets" if asked is budget else "--budget"
    check_budgets(asked, seen.num_tokens, flag)
    names = sorted({sample.image for sample in samples})
    files = [folder / name for name in names]
    for file in files:
        check_image_file(file, "the instruction data")
    features = team.first_then_all(lambda: image_features(cache, files, seen))
    check_budgets(asked, features.num_tokens, flag)  # these images may have fewer than the largest
    questions = [sample.tower_question for sample in samples]
    texts = encode_questions(seen.tower, seen.tokenizer, questions)
    pruner = Pruner(texts, seen.text_selection == "nearest")
    places = {name: place for place, name in enumerate(names)}
    settings = vision_settings(seen) | {"text_selection": seen.text_selection}
    return AskedImages(samples, features, places, pruner, settings, seen.folder)


def load_frozen_llm(args: ModelArguments) -> LanguageModel:
    """Loads the LLM with its projector, frozen; see read_features for the newline tokens."""
    backbone = load_from_arguments(dataclasses.replace(args, compensation=NOTHING)).backbone
    language_model = backbone.language_model
    if isinstance(backbone, LlavaNext):
        newline = backbone.image_newline.detach()
        language_model.projector = NewlineProjector(language_model.projector, newline)
    return language_model


def llm_fingerprints(args: ModelArguments) -> list[str]:
    """Returns the fingerprint of each file of the LLM's weights; see fingerprint."""
    return [fingerprint(file) for file in weight_files(locate(args.model_path))]

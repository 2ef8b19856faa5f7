"""LLaVA's first stage, for the mini model: visual tokens aligned with words.

Each visual token learns to lie near the words for what is on its patch, in the LLM's own table of
words. The LLM is frozen. It has learnt from descriptions to find things by their words (first run
of train_llava); a visual token that lies near these words is found in the same way. The real model
gets its projector ready-made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llava.mini.scene import COLORS, PLACES, SHAPES, SIZES, Thing
from llava.mini.stages.arguments import ProjectorArguments
from llava.mini.stages.clip import NOTHING, UNCLEAR, patch_labels
from llava.mini.stages.mini_llava import load_llava, mini_features, model_files, save_llava
from llava.mini.training_set import TrainingSet, read_training_set
from llava.model.builder import load_vision
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.train.arguments import model_arguments
from llava.train.batches import TensorBatch
from llava.train.closing import command_line, finish
from llava.train.features import ImageFeatures, vision_settings
from llava.train.provenance import hashes_of
from llava.train.stage import check_given, open_stage
from llava.train.trainer import train

OBJECTS = 0.8  # weight of objects, beside the background
BACKGROUND = "image"  # the word for patches on which nothing lies
WORDS = (BACKGROUND, *COLORS, *SHAPES, *SIZES, *PLACES)
_KINDS = {"color": COLORS, "shape": SHAPES, "size": SIZES, "place": PLACES}


@dataclass(frozen=True)
class PatchBatch(TensorBatch):
    """B images with the words for their patches.

    Attributes:
        features: (B, N, C), from the tower.
        words: (B, N, W) 1.0 for the words that are true of a patch.
        clear: (B, N) bool, False for patches that are not asked.
    """

    features: Tensor
    words: Tensor
    clear: Tensor


class ProjectorObjective(nn.Module):
    """The objective of the stage: visual tokens that stand for the words for what they show.

    Args:
        projector: the model that is trained.
        table: (W, D), the LLM's embeddings of WORDS.
    """

    def __init__(self, projector: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.projector = projector
        self.register_buffer("target", table / table.norm(dim=-1, keepdim=True))
        self.register_buffer("length", table.norm(dim=-1).mean())

    def forward(self, batch: PatchBatch) -> dict[str, Tensor]:
        """Computes the squared distance from the mean direction of the true words.

        Objects count for more than their area; "accuracy" counts the object patches whose four true
        words are the nearest ones.
        """
        projected = self.projector(batch.features)[batch.clear] / self.length
        words = batch.words[batch.clear]
        wanted = F.normalize(words @ self.target, dim=-1)
        each = (projected - wanted).square().sum(dim=-1)
        on = words[:, 0] == 0
        near = (projected @ self.target.T)[on]
        worst_true = near.masked_fill(words[on] == 0, torch.inf).min(dim=-1).values
        best_false = near.masked_fill(words[on] > 0, -torch.inf).max(dim=-1).values
        loss = OBJECTS * each[on].mean() + (1 - OBJECTS) * each[~on].mean()
        right = (worst_true > best_false).float().mean()
        return {"loss": loss * batch.weight, "accuracy": right * batch.weight}


@dataclass(eq=False)
class ProjectorData:
    """Images with the words for their patches.

    Attributes:
        texts: the training set.
        features: of its images.
        patch_size: side of a patch, pixels.
    """

    texts: TrainingSet
    features: ImageFeatures
    patch_size: int

    def __len__(self) -> int:
        return len(self.features)

    def collate(self, indices: list[int], generator: torch.Generator) -> PatchBatch:
        """Returns a batch of images."""
        rows = [patch_words(self.texts.scenes[i], self.patch_size) for i in indices]
        return PatchBatch(
            features=torch.stack([self.features.image(i).features for i in indices]),
            words=torch.stack([words for words, _ in rows]),
            clear=torch.stack([clear for _, clear in rows]),
        )

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's images."""
        return ", ".join(self.texts.images[index] for index in indices)


def patch_words(things: list[Thing], patch_size: int) -> tuple[Tensor, Tensor]:
    """Returns (N, W), 1.0 where one of WORDS is true of a patch, and (N,) bool, True if clear."""
    labels = patch_labels(things, patch_size)
    words = torch.zeros(len(labels["color"]), len(WORDS))
    words[labels["color"] == NOTHING, 0] = 1
    first = 1
    for kind, values in _KINDS.items():
        on = labels[kind] > 0
        words[on, first - 1 + labels[kind][on]] = 1
        first += len(values)
    return words, labels["color"] != UNCLEAR


def train_projector(args: ProjectorArguments) -> int:
    """Runs the stage."""
    check_given(args, "model_path", "data", "output_dir", "output")
    with open_stage("train_projector", args) as stage:
        source, folder, run = Path(args.model_path), Path(args.data), Path(args.output_dir)
        texts = read_training_set(folder)
        seen = load_vision(model_arguments(args))
        cache = Path(args.features or run / "features")
        features = mini_features(folder, cache, texts, seen, stage.team)
        llm, projector = load_llava(source, args.seed)
        tokenizer = LlamaTokenizer(source)
        ids = [tokenizer.encode(word)[-1] for word in WORDS]
        objective = ProjectorObjective(projector, llm.get_input_embeddings().weight[ids].detach())
        data = ProjectorData(texts, features, seen.tower.clip.config.vision_config.patch_size)
        inputs = {"data": folder / "texts.jsonl", "vision_tower": seen.folder} | model_files(source)
        chosen = vision_settings(seen)
        chosen |= dict(inputs={name: hashes_of(path) for name, path in inputs.items()})
        train(stage, objective, data, chosen)
        output = Path(args.output)
        parts = {"model_path": output, "vision_tower": args.vision_tower}
        use = command_line("llava.train.train_llava", **parts)
        write = partial(save_llava, llm, projector, source, output)
        return finish(stage, chosen, inputs, use, write)

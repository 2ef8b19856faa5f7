"""Training on the outputs of a vision tower that is not CLIP: the tokens that the LLM reads.

Images are encoded as they are drawn: kept on disk, the tokens of native resolution would take 5 MB
an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from llava.arguments import ModelArguments
from llava.budgets import AskedBudget, count_kept
from llava.compensations import UNCOMPENSATED
from llava.method import Method
from llava.mm_utils import load_image
from llava.model.backbones.qwen2_5_vl import Qwen25Vl
from llava.model.backbones.qwen_loading import load_qwen
from llava.model.loading.parts import read_model
from llava.model.loading.placement import Placement, placement
from llava.model.loading.qwen_config import QwenConfig
from llava.model.multimodal_encoder.visual_tokens import VisualTokens
from llava.model.token_pruning.pruner import Pruned, Query, prune
from llava.model.token_pruning.registry import find_pruner, pruning_of

PRUNER = "fastervlm"  # by attention received; see docs/methods.md


@dataclass(frozen=True)
class NativeFeatures:
    """The tokens of images, encoded when they are asked for.

    Attributes:
        images: their files.
        backbone: has the tower.
    """

    images: Sequence[Path]
    backbone: Qwen25Vl

    @property
    def embed_dim(self) -> int:
        """The width of a token."""
        return self.backbone.embed_dim

    @torch.inference_mode()
    def image(self, number: int) -> VisualTokens:
        """Returns one image's tokens, in float32 on the CPU.

        Raises:
            UserError: the image cannot be read.
        """
        pixels = self.backbone.preprocess([load_image(self.images[number])])
        (image,) = self.backbone.encode_images(pixels, find_pruner(PRUNER).needs)
        features = image.features.float().cpu()
        attention = image.head_attention
        return replace(
            image,
            features=features,
            patch_embeds=features,
            head_attention=None if attention is None else attention.cpu(),
        )


class NativePruner:
    """Keeps the tokens that receive the most attention."""

    def select(
        self, image: VisualTokens, question: str, budget: AskedBudget, generator: torch.Generator
    ) -> Pruned:
        """Prunes an image to a budget; at least one token is dropped, if there are two."""
        num_tokens = len(image.features)
        kept = min(count_kept(budget, num_tokens), max(1, num_tokens - 1))
        method = Method(kept, pruner=PRUNER)
        pruning = pruning_of(method, num_tokens, nearest=False, views=image.views)
        (found,) = prune([image], [Query()], [pruning], [generator])
        return found


def reads_clip(args: ModelArguments) -> bool:
    """Returns whether CLIP is the own tower of the model that is trained on."""
    return read_model(replace(args, **UNCOMPENSATED))[1].has_clip


def load_native(args: ModelArguments) -> tuple[Qwen25Vl, Path]:
    """Loads the tower of a Qwen2.5-VL, frozen, and no value of its LLM; returns its folder too.

    Raises:
        UserError: see load_pretrained_model.
    """
    parts, config = read_model(replace(args, **UNCOMPENSATED))
    assert isinstance(config, QwenConfig)
    place = placement(args)
    no_llm = Placement(torch.device("meta"), place.dtype)
    backbone, _ = load_qwen(args, parts, config, place, no_llm)
    return backbone.eval().requires_grad_(False), parts["model"]

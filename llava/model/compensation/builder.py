"""Builds the parts of compensation in the shapes of their files, and fills them.

Sizes come from a config.json where the checkpoint has one and from the shapes of the tensors where
it has none. Tensors on the meta device build a part without weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, GPT2Tokenizer

from llava.errors import UserError
from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.caption_writer import FirstCaption
from llava.model.compensation.compensator import Compensator
from llava.model.compensation.long_clip import LongClipText, build_text_tower, merge_positions
from llava.model.compensation.selector import Selector
from llava.model.compensation.triplets import SceneGraphSettings
from llava.model.loading.bpe import check_vocabulary, read_bpe
from llava.model.loading.configs import config_errors, gpt2_config, read_config
from llava.model.loading.llava_config import Tensors
from llava.model.loading.placement import Placement
from llava.model.loading.weights import fill, read_checkpoint, unwrap
from llava.model.shapes import CLIP_VOCABULARY

_MOST_POSITIONS = 1 << 13  # of LongCLIP, which computes a mask of this number squared


@dataclass(frozen=True)
class LoadedFrom:
    """The files and settings from which a compensation is loaded.

    Attributes:
        paths: the paths of its files, by their flags; see locate_parts.
        embed_dim: P, the projection width of CLIP.
        place: device and dtype of its parts.
        embed_texts: encodes B texts by CLIP's text tower, (B, P) float32 of unit length.
        silence: see build_selector.
        graph_settings: of a scene graph.
    """

    paths: Mapping[str, Path]
    embed_dim: int
    place: Placement
    embed_texts: Callable[[Sequence[str]], Tensor]
    silence: bool | None = None
    graph_settings: SceneGraphSettings = SceneGraphSettings()

    def caption_model(self) -> tuple[CaptionModel, GPT2Tokenizer]:
        """Loads the caption model; see load_caption_model."""
        files = self.paths["gpt2"], self.paths["caption_model"]
        return load_caption_model(*files, self.embed_dim, self.place)


def load_compensator(source: LoadedFrom) -> Compensator:
    """Loads caption model, LongCLIP and selector.

    Raises:
        UserError: a file is missing, damaged or of another model, or cannot choose silence.
    """
    caption_model, tokenizer = source.caption_model()
    long_clip = load_long_clip(source.paths["longclip"], source.place)
    selector = load_selector(source.paths["selector"], long_clip, source.place, source.silence)
    return Compensator(caption_model, tokenizer, long_clip, selector)


def load_first_caption(source: LoadedFrom) -> FirstCaption:
    """Loads the caption model alone.

    Raises:
        UserError: a file is missing, damaged or of another model.
    """
    return FirstCaption(*source.caption_model())


def load_caption_model(
    gpt2: Path, weights: Path, embed_dim: int, place: Placement
) -> tuple[CaptionModel, GPT2Tokenizer]:
    """Loads ACCM's caption model and its tokenizer.

    Args:
        gpt2: folder of GPT-2's config and tokenizer.
        weights: ACCM's file.
        embed_dim: P, the projection width of CLIP.
        place: device and dtype of the model.

    Raises:
        UserError: a file is missing, damaged or of another model.
    """
    config, tokenizer = read_gpt2(gpt2)
    tensors = read_checkpoint(weights)
    return build_caption_model(config, embed_dim, tensors, str(weights), place), tokenizer


def read_gpt2(folder: Path) -> tuple[dict, GPT2Tokenizer]:
    """Reads GPT-2's config.json and tokenizer.

    Raises:
        UserError: a file is missing, damaged or of another model.
    """
    config = read_config(folder)
    tokenizer = read_bpe(GPT2Tokenizer, folder)
    check_vocabulary(tokenizer, gpt2_config(config, str(folder)).vocab_size, folder)
    return config, tokenizer


def load_long_clip(weights: Path, place: Placement) -> LongClipText:
    """Loads LongCLIP's text tower.

    Raises:
        UserError: the file is missing, damaged or of another model.
    """
    tower = build_long_clip(read_checkpoint(weights), str(weights), place)
    return LongClipText(tower, tower.context_length)


def load_selector(
    weights: Path, long_clip: LongClipText, place: Placement, silence: bool | None = None
) -> Selector:
    """Loads ACCM's selector for LongCLIP's features.

    Args:
        silence: see build_selector.

    Raises:
        UserError: the file is missing, damaged or of another model, or cannot choose silence.
    """
    tensors = read_checkpoint(weights)
    return build_selector(long_clip.embed_dim, tensors, str(weights), place, silence)


def build_caption_model(
    gpt_config: dict, embed_dim: int, tensors: Tensors, source: str, place: Placement
) -> CaptionModel:
    """Builds GPT-2 and its mapper.

    All weights come from the caption checkpoint; GPT-2's own are not read.

    Args:
        gpt_config: GPT-2's config.json.
        embed_dim: P, the projection width of CLIP.
    """
    tensors = unwrap(tensors, ["clip_project.prefix_const"])
    prefix_length, _ = _shape(tensors, "clip_project.prefix_const", 2, source, "caption model")
    num_layers = _count(tensors, r"clip_project\.transformer\.layers\.(\d+)\.")
    sizes = gpt2_config(gpt_config, "GPT-2")
    with config_errors("GPT-2"), init_empty_weights():
        gpt = GPT2LMHeadModel(sizes)
        model = CaptionModel(gpt, embed_dim, prefix_length, num_layers)
    fill(
        model,
        tensors,
        source,
        place.dtype,
        place.device_of,
        optional=frozenset({"gpt.lm_head.weight"}),  # tied to GPT-2's embeddings: _GPT2_FIELDS
    )
    gpt.tie_weights()
    return model.to(place.device)


def build_long_clip(tensors: Tensors, source: str, place: Placement) -> nn.Module:
    """Builds LongCLIP's text tower.

    The file also has a vision tower and a logit scale, which are not needed.
    """
    what = "LongCLIP model"
    tensors = unwrap(tensors, ["positional_embedding_res"])
    positions, _ = _shape(tensors, "positional_embedding_res", 2, source, what)
    _shape(tensors, "positional_embedding", 2, source, what)
    kept = {k: t for k, t in tensors.items() if not k.startswith("visual.") and k != "logit_scale"}
    if positions > _MOST_POSITIONS:
        raise UserError(f"{source} is not a {what}: it has a table of {positions:,} positions")
    kept["positional_embedding"] = merge_positions(
        kept["positional_embedding"], kept.pop("positional_embedding_res")
    )
    vocab_size, width = _shape(kept, "token_embedding.weight", 2, source, what)
    _, embed_dim = _shape(kept, "text_projection", 2, source, what)
    if vocab_size < CLIP_VOCABULARY:
        raise UserError(
            f"{source} is not a {what}: it knows {vocab_size} tokens of CLIP's {CLIP_VOCABULARY}"
        )
    with config_errors(source), init_empty_weights():
        tower = build_text_tower(
            width=width,
            layers=_count(kept, r"transformer\.resblocks\.(\d+)\."),
            embed_dim=embed_dim,
            context_length=positions,
            vocab_size=vocab_size,
        )
    fill(tower, kept, source, place.dtype, place.device_of)
    return tower.to(place.device)


def build_selector(
    embed_dim: int,
    tensors: Tensors,
    source: str,
    place: Placement,
    silence: bool | None = None,
) -> Selector:
    """Builds the selector over features of embed_dim (LongCLIP's).

    Args:
        silence: whether silence is a candidate; None: if the file has its weights.

    Raises:
        UserError: the tensors are not a selector's, or silence is requested and has no weights.
    """
    tensors = unwrap(tensors, ["head.weight"])
    num_layers = _count(tensors, r"transformer_encoder\.layers\.(\d+)\.")
    if num_layers == 0:
        raise UserError(f"{source} is not a selector: it has no transformer_encoder.layers")
    if silence and "silence" not in tensors:
        raise UserError(
            f"{source} cannot choose silence, it was trained without: leave --silence out, or "
            "train one with llava.train.train_selector --silence"
        )
    if silence is False:
        tensors = {name: tensor for name, tensor in tensors.items() if name != "silence"}
    with config_errors(source), init_empty_weights():
        selector = Selector(embed_dim, num_layers, "silence" in tensors)
    fill(selector, tensors, source, place.dtype, place.device_of)
    return selector.to(place.device)


def _shape(tensors: Tensors, key: str, rank: int, source: str, what: str) -> torch.Size:
    if key not in tensors or tensors[key].dim() != rank:
        raise UserError(f"{source} is not a {what}: it has no tensor {key} of {rank} dimensions")
    return tensors[key].shape


def _count(tensors: Tensors, pattern: str) -> int:
    """Counts the numbered layers that the keys name."""
    return len({match[1] for key in tensors if (match := re.match(pattern, key))})

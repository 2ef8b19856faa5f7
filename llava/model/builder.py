"""The only entry point that loads weights: ``load_pretrained_model``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil

from llava.arguments import ModelArguments
from llava.compensations import UNCOMPENSATED
from llava.errors import UserError, quoted
from llava.model.about import read_about
from llava.model.backbones.backbone import Backbone
from llava.model.backbones.llava_next import tiled_vision
from llava.model.backbones.registry import load_backbone
from llava.model.compensation.builder import LoadedFrom
from llava.model.compensation.registry import load_compensation
from llava.model.compensation.supplement import CompensationModule
from llava.model.compensation.triplets import graph_settings
from llava.model.language_model.compiled import check_compiler
from llava.model.language_model.tokenizer import Tokenizer
from llava.model.llava_arch import LlavaAccm
from llava.model.loading.llava_config import LlavaConfig, split_llava
from llava.model.loading.next_config import NextConfig
from llava.model.loading.parts import read_model
from llava.model.loading.placement import placement, uses_cuda_graphs
from llava.model.loading.weights import has_weights, read_checkpoint
from llava.model.multimodal_encoder.builder import Vision, load_tower
from llava.model.products import optimize_for_inference
from llava.model.products.forms import choose_forms
from llava.moved import MOVED, names_of

# Old import paths: these names have moved to other modules.
__getattr__ = names_of(
    __name__,
    (
        "llava.arguments",
        "llava.model.loading.bpe",
        "llava.model.loading.parts",
        *MOVED["llava.model.parts"],
    ),
)


def load_pretrained_model(
    model_path: str,
    model_base: None = None,
    model_name: str | None = None,
    **settings: Any,
) -> tuple[Tokenizer, LlavaAccm, CLIPImageProcessorPil, int]:
    """Loads a model of any family, with all parts of ACCM.

    Args:
        model_path: LLaVA-1.5, LLaVA-NeXT or Qwen2.5-VL, in its authors' layout or in transformers'.
        model_base: LLaVA's argument for weights that are not merged; None is the only choice.
        model_name: LLaVA's argument, without effect here: the kind of a checkpoint follows from
            its config.json.
        settings: the other fields of ModelArguments.

    Returns:
        The LLM's tokenizer, the model, the image processor, and the LLM's context length in
        tokens; the model holds the other three too.

    Raises:
        UserError: a part is missing, damaged or of another model, or a setting is wrong.
    """
    if model_base is not None:
        raise UserError(
            f"model_base is {quoted(model_base)}: only merged checkpoints are supported, leave it "
            "None"
        )
    model = load_from_arguments(ModelArguments(model_path, **settings))
    language_model = model.language_model
    return (
        language_model.tokenizer,
        model,
        model.image_processor,
        language_model.context_length,
    )


def load_from_arguments(args: ModelArguments) -> LlavaAccm:
    """Returns the model that a command's flags name; load_pretrained_model for commands."""
    if args.compile:
        check_compiler()
    args.check_compensation()
    parts, config = read_model(args)
    place = placement(args)
    choose_forms(args.cpu_products, place.device, place.dtype, args.compile)  # refuses bad choices
    has_graphs = uses_cuda_graphs(args, place)
    backbone, text_selection = load_backbone(args, parts, config, place)
    compensator = _load_compensator(args, parts, backbone)
    about = read_about(parts["model"], Path(args.model_path).resolve().name)
    model = LlavaAccm(backbone, compensator, text_selection, about=about)
    model = model.eval().requires_grad_(False)
    model = optimize_for_inference(model, args.cpu_products, args.compile)
    return model.use_cuda_graphs() if has_graphs else model


def with_compensation(model: LlavaAccm, args: ModelArguments) -> LlavaAccm:
    """Returns a model that shares all parts with a loaded one except the compensation.

    Args:
        model: loaded from the same flags, except those of the compensation.
        args: the flags.

    Raises:
        UserError: as in load_from_arguments, for the compensation.
    """
    args.check_compensation()
    compensator = _load_compensator(args, read_model(args)[0], model.backbone)
    other = model.with_compensator(compensator)
    if compensator is not None:
        optimize_for_inference(other, args.cpu_products, args.compile)
        if model.has_graphs:
            compensator.use_cuda_graphs()
    return other.eval().requires_grad_(False)


def _load_compensator(
    args: ModelArguments, parts: Mapping[str, Path], backbone: Backbone
) -> CompensationModule | None:
    """Loads the compensation that a command's flags select, for a loaded backbone."""

    def embed_texts(texts: Sequence[str]) -> Tensor:
        return torch.stack(backbone.encode_questions(texts))

    settings = graph_settings(args.compensation_options)
    source = LoadedFrom(
        parts, backbone.embed_dim, placement(args), embed_texts, args.silence, settings
    )
    return load_compensation(args.compensation_terms, source)


def load_vision(args: ModelArguments) -> Vision:
    """Loads only the tower of a LLaVA checkpoint, frozen, for training on its outputs.

    Raises:
        UserError: see load_pretrained_model.
    """
    parts, config = read_model(dataclasses.replace(args, **UNCOMPENSATED))
    if not isinstance(config, LlavaConfig):
        raise UserError(
            f"{parts['model']} is {config.family}, and this command trains on CLIP's outputs: name "
            "a checkpoint of LLaVA"
        )
    source = str(parts["model"])
    # A LLaVA that is yet to be trained has no weights, and no tower of its own.
    tensors = read_checkpoint(parts["model"]) if has_weights(parts["model"]) else {}
    own = split_llava(tensors, source)["tower"]
    seen = load_tower(args, config, parts["vision_tower"], own, placement(args))
    seen.tower.eval().requires_grad_(False)
    return tiled_vision(seen, parts, config) if isinstance(config, NextConfig) else seen

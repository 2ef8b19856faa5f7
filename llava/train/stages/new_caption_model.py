"""The caption model as training begins."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from llava.files import read_json
from llava.model.compensation.caption_model import CaptionModel
from llava.model.loading.weights import has_weights
from llava.train.stages.arguments import CaptionArguments

# The sizes of a GPT-2 and a mapper without published weights, at the width of the mini model.
INITIAL_STD = 0.08
POSITION_STD = 0.03
PREFIX_STD = 0.3


def new_caption_model(gpt2: Path, embed_dim: int, args: CaptionArguments) -> CaptionModel:
    """Returns GPT-2, with published weights or new where there are none, and a new mapper."""
    torch.manual_seed(args.seed)
    if has_weights(gpt2):
        gpt = GPT2LMHeadModel.from_pretrained(gpt2, dtype=torch.float32)
    else:
        print(f"{gpt2} has no weights: GPT-2 starts from nothing", file=sys.stderr)
        gpt = GPT2LMHeadModel(GPT2Config(**read_json(gpt2 / "config.json")))
    model = CaptionModel(gpt, embed_dim, args.prefix_length, args.mapper_layers)
    with torch.no_grad():
        model.clip_project.prefix_const.normal_()
        if not has_weights(gpt2):
            _start_copying(model)
    return model


def _start_copying(model: CaptionModel) -> None:
    """Initialises attention in GPT-2 and mapper: it copies tokens like the current one.

    It finds them by keys = queries, and copies by output = transposed values. A GPT-2 from
    random weights otherwise learns to name what is there, and for a long time not where.
    """
    for name, parameter in model.gpt.named_parameters():
        if parameter.dim() == 2:
            parameter.normal_(0, POSITION_STD if "wpe" in name else INITIAL_STD)
    for block in model.gpt.transformer.h:
        weight = block.attn.c_attn.weight  # (D, 3 D), transposed as GPT-2 has it
        width = len(weight)
        weight[:, width : 2 * width] = weight[:, :width]
        block.attn.c_proj.weight.copy_(weight[:, 2 * width :].T)
    for layer in model.clip_project.transformer.layers:
        queries, both = layer.attn.to_queries.weight, layer.attn.to_keys_values.weight
        queries.normal_(0, INITIAL_STD)
        both.normal_(0, INITIAL_STD)
        both[: len(queries)] = queries
        layer.attn.project.weight.copy_(both[len(queries) :].T)
        layer.attn.project.bias.zero_()
    model.clip_project.prefix_const.normal_(0, PREFIX_STD)

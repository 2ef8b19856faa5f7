"""The LLaVA folder of the mini model, as its two stages read and write it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import nn
from transformers import LlamaForCausalLM

from llava.files import read_json
from llava.mini.training_set import TrainingSet
from llava.model.builder import Vision
from llava.model.multimodal_projector.builder import build_vision_projector
from llava.model.parts import fill_llm, read_llava_config, split_llava
from llava.model.weights import fill, has_weights, read_checkpoint
from llava.train.features import ImageFeatures, image_features
from llava.train.record import hashes_of, save_weights
from llava.train.team import Team

INITIAL_STD = 0.08  # Llama's usual 0.02 stands still for minutes at this width


def start_attention(llm: LlamaForCausalLM, seed: int) -> None:
    """Gives a Llama its first weights.

    Its attention starts by looking for what is like itself (keys = queries) and copying it (output
    = transposed values): looking things up is all that it will do, and chance takes long to find
    that.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in llm.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, INITIAL_STD)
        for layer in llm.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)


def load_llava(folder: Path, seed: int) -> tuple[LlamaForCausalLM, nn.Module]:
    """Llama and projector of a LLaVA folder in float32, new where it has no weights."""
    config = read_llava_config(read_json(folder / "config.json"), str(folder))
    llm = LlamaForCausalLM(config.llm)
    width = read_json(folder / "config.json")["mm_hidden_size"]
    start_attention(llm, seed)
    projector = build_vision_projector(config.projector_type, width, config.llm.hidden_size)
    if has_weights(folder):
        parts = split_llava(read_checkpoint(folder), str(folder))
        cpu = torch.device("cpu")
        fill_llm(llm, parts["llm"], str(folder), torch.float32, lambda name: cpu)
        fill(projector, parts["projector"], str(folder), torch.float32, lambda name: cpu)
    return llm, projector


def save_llava(
    llm: LlamaForCausalLM, projector: nn.Module, source: Path, output: Path
) -> list[Path]:
    """Writes a LLaVA folder in its authors' layout: the small files of another, new weights."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        if source != output:
            shutil.copy(source / name, output / name)
    tensors = dict(llm.state_dict())
    if llm.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    tensors |= {f"model.mm_projector.{k}": t for k, t in projector.state_dict().items()}
    save_weights(output / "model.safetensors", tensors, torch.float16)
    return [output / "model.safetensors"]


def mini_features(
    data: Path, cache: Path, texts: TrainingSet, seen: Vision, team: Team
) -> ImageFeatures:
    """What the tower says of the mini world's training images."""
    images = [data / "images" / name for name in texts.images]
    identity = {"vision_tower": hashes_of(seen.folder)}
    return team.first_then_all(
        lambda: image_features(cache, images, seen.tower, seen.image_processor, identity)
    )

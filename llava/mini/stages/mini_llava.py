"""The LLaVA folder of the mini model, as its two stages read and write it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from llava.files import read_json
from llava.mini.training_set import TrainingSet
from llava.model.language_model.builder import fill_llm
from llava.model.loading.families import read_model_config
from llava.model.loading.llava_config import LlavaConfig, split_llava
from llava.model.loading.next_config import NextConfig
from llava.model.loading.weights import fill, has_weights, read_checkpoint, weight_files
from llava.model.multimodal_encoder.builder import Vision
from llava.model.multimodal_projector.builder import build_vision_projector
from llava.train.distributed import Team
from llava.train.features import ImageFeatures, image_features
from llava.train.newlines import NewlineProjector
from llava.train.provenance import save_weights

INITIAL_STD = 0.08  # with Llama's usual 0.02 nothing is learnt for minutes at this width
SHARED_LENGTH = 0.45  # of the direction that all words share: half of their own length
LOOKING_BACK = {0: (1, 2), 1: (1,)}  # layer -> how far its first heads look back
SHARPNESS = 1.35
_FAST_PAIRS = 5
NEWLINE = "model.image_newline"  # its name in the layout of LLaVA's authors


def start_attention(llm: LlamaForCausalLM, seed: int) -> None:
    """Initialises the weights of a Llama.

    Its only task will be to look things up, and random weights take long to learn that. So
    attention starts by finding tokens like the current one (keys = queries) and copying them
    (output = transposed values); some heads of the first layers start one or two tokens back, so
    that a word knows the words before it. For these, all words share a direction, which the other
    heads do not see.
    """
    torch.manual_seed(seed)
    config = llm.config
    width = config.hidden_size // config.num_attention_heads
    with torch.no_grad():
        for parameter in llm.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, INITIAL_STD)
        shared = F.normalize(torch.randn(config.hidden_size), dim=0)
        table = llm.get_input_embeddings().weight
        table += (SHARED_LENGTH - table @ shared)[:, None] * shared
        for number, layer in enumerate(llm.model.layers):
            attention = layer.self_attn
            queries, keys = attention.q_proj.weight, attention.k_proj.weight
            queries -= (queries @ shared)[:, None] * shared
            keys.copy_(queries)
            for head, back in enumerate(LOOKING_BACK.get(number, ())):
                rows = slice(head * width, (head + 1) * width)
                query, key = look_back(back, width, config.rope_parameters["rope_theta"])
                queries[rows], keys[rows] = torch.outer(query, shared), torch.outer(key, shared)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)


def look_back(back: int, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Returns a query and a key, both (width,), that fit best at a distance of that many tokens.

    Only the fast pairs of the rotary embedding distinguish neighbours.
    """
    half = width // 2
    angles = back * theta ** (-torch.arange(_FAST_PAIRS) / half)
    query, key = torch.zeros(width), torch.zeros(width)
    key[:_FAST_PAIRS] = SHARPNESS
    query[:_FAST_PAIRS] = SHARPNESS * angles.cos()
    query[half : half + _FAST_PAIRS] = -SHARPNESS * angles.sin()
    return query, key


def load_llava(folder: Path, seed: int) -> tuple[LlamaForCausalLM, nn.Module]:
    """Loads Llama and projector of a LLaVA folder in float32, new where it has no weights.

    The projector of a LLaVA-NeXT has its newline token; see NewlineProjector.
    """
    config = read_model_config(read_json(folder / "config.json"), str(folder))
    assert isinstance(config, LlavaConfig)  # make_model writes no other
    llm = LlamaForCausalLM(config.llm)
    width = read_json(folder / "config.json")["mm_hidden_size"]
    start_attention(llm, seed)
    projector = build_vision_projector(config.projector_type, width, config.llm.hidden_size)
    newline = torch.randn(config.llm.hidden_size) * INITIAL_STD
    if has_weights(folder):
        parts = split_llava(read_checkpoint(folder), str(folder))
        newline = parts["llm"].pop(NEWLINE, newline).float()
        cpu = torch.device("cpu")
        fill_llm(llm, parts["llm"], str(folder), torch.float32, lambda name: cpu)
        fill(projector, parts["projector"], str(folder), torch.float32, lambda name: cpu)
    if isinstance(config, NextConfig):
        return llm, NewlineProjector(projector, newline.requires_grad_())
    return llm, projector


def model_files(folder: Path) -> dict[str, Path]:
    """Returns the files that a stage reads of a LLaVA folder, for its settings and record.

    These are the configuration, and the weights where there are some.
    """
    weights = weight_files(folder) if has_weights(folder) else []
    return {"config": folder / "config.json"} | {path.name: path for path in weights}


def save_llava(
    llm: LlamaForCausalLM, projector: nn.Module, source: Path, output: Path
) -> list[Path]:
    """Writes a LLaVA folder in its authors' layout: another folder's small files, new weights."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        if source != output:
            shutil.copy(source / name, output / name)
    tensors = dict(llm.state_dict())
    if llm.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    if isinstance(projector, NewlineProjector):
        tensors[NEWLINE] = projector.newline.data
        projector = projector.projector
    tensors |= {f"model.mm_projector.{k}": t for k, t in projector.state_dict().items()}
    save_weights(output / "model.safetensors", tensors, torch.float16)
    return [output / "model.safetensors"]


def mini_features(
    data: Path, cache: Path, texts: TrainingSet, seen: Vision, team: Team
) -> ImageFeatures:
    """Returns the tower's outputs for the mini world's training images."""
    images = [data / "images" / name for name in texts.images]
    return team.first_then_all(lambda: image_features(cache, images, seen))

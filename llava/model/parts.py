"""The parts of the method, each built to the shapes of its file and filled from it.

Sizes come from a config.json where the checkpoint has one and from the shapes of the tensors where
it has none. Every builder takes the tensors of a checkpoint (llava.model.weights.read_checkpoint);
tensors on the meta device build the part without weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import CLIPModel, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from llava.errors import UserError, quoted
from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.long_clip import build_text_tower, merge_positions
from llava.model.compensation.selector import Selector
from llava.model.configs import check_numbers, clip_config, config_errors, gpt2_config
from llava.model.multimodal_projector.builder import build_vision_projector
from llava.model.shapes import CLIP_VOCABULARY
from llava.model.weights import fill, put_once, unwrap

Tensors = Mapping[str, Tensor]

_MOST_POSITIONS = 1 << 13  # of LongCLIP, which computes a mask of their square


@dataclass(frozen=True)
class Placement:
    """Where a part goes.

    Attributes:
        device: of the whole part.
        dtype: of its parameters.
    """

    device: torch.device
    dtype: torch.dtype

    def device_of(self, name: str) -> torch.device:
        return self.device


def build_clip(config: dict, tensors: Tensors, source: str, place: Placement) -> CLIPModel:
    """CLIP, vision and text, from its config.json and its tensors."""
    tensors = unwrap(tensors, ["logit_scale"])
    sizes = clip_config(config, source)
    # In float32 the recorded values count to the last digits that float32 has, and plain attention
    # comes closest to them: the mapper behind the tower magnifies what the fused kernel rounds off.
    attention = "eager" if place.dtype == torch.float32 else "sdpa"
    with config_errors(source), init_empty_weights():
        clip = CLIPModel._from_config(sizes, attn_implementation=attention)
    fill(clip, tensors, source, place.dtype, place.device_of)
    return clip.to(place.device)


def build_caption_model(
    gpt_config: dict, embed_dim: int, tensors: Tensors, source: str, place: Placement
) -> CaptionModel:
    """GPT-2 and its mapper. All weights come from the caption checkpoint, GPT-2's own are not read.

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
        optional=frozenset({"gpt.lm_head.weight"}),  # GPT-2's is tied: _GPT2_FIELDS
    )
    gpt.tie_weights()
    return model.to(place.device)


def build_long_clip(tensors: Tensors, source: str, place: Placement) -> nn.Module:
    """LongCLIP's text tower. Its vision tower and logit scale are in the file and not needed."""
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
        silence: whether silence is a candidate; None: where the file has learnt it.

    Raises:
        UserError: the tensors are no selector's, or silence is wanted and they have not learnt it.
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


@dataclass(frozen=True)
class LlavaConfig:
    """What a LLaVA-1.5 checkpoint's config.json says, whoever published it.

    Attributes:
        llm: transformers' configuration of the Llama.
        vision_tower: name of the CLIP checkpoint; None where the file does not say.
        projector_type: LLaVA's name of it.
        select_layer: hidden state of the tower that the projector reads.
        image_aspect_ratio: "pad" or None.
        text_selection: "farthest" or "nearest"; see select_tokens.
        patch_post_layernorm: see ClipTower.
    """

    llm: LlamaConfig
    vision_tower: str | None
    projector_type: str
    select_layer: int
    image_aspect_ratio: str | None
    text_selection: str
    patch_post_layernorm: bool


_LLAMA_FIELDS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads hidden_act max_position_embeddings initializer_range rms_norm_eps "
    "rope_theta rope_scaling rope_parameters attention_bias mlp_bias head_dim tie_word_embeddings"
).split()


def read_llava_config(config: dict, source: str) -> LlavaConfig:
    """Understands both layouts: the authors' (``mm_*`` keys) and transformers' (nested).

    Raises:
        UserError: not LLaVA-1.5.
    """
    nested = "text_config" in config
    if not nested and "mm_projector_type" not in config:
        raise UserError(
            f"{source} is not a LLaVA-1.5 checkpoint: config.json has neither mm_projector_type "
            "(the authors' layout) nor text_config (transformers' layout)"
        )
    _check_variant(config, _NESTED_VARIANT if nested else _FLAT_VARIANT, source)
    if config.get("quantization_config") is not None:
        raise UserError(
            f"{source} is quantised ({quoted(config['quantization_config'])}): fetch the "
            "checkpoint that it was made from, in float16 or bfloat16"
        )
    aspect_ratio = config.get("image_aspect_ratio", "pad" if nested else None)
    select_layer = config.get("vision_feature_layer" if nested else "mm_vision_select_layer", -2)
    post_layernorm = config.get("accm_patch_post_layernorm", True)
    vision_tower = config.get("mm_vision_tower")
    with config_errors(source):
        llm = config["text_config"] if nested else config
        _check_variant(llm if nested else {}, {"model_type": ("llama", None)}, source)
        llm = LlamaConfig(**{k: llm[k] for k in _LLAMA_FIELDS if llm.get(k) is not None})
        for name, value, kind in (
            ("select layer", select_layer, int),
            ("accm_patch_post_layernorm", post_layernorm, bool),
            ("mm_vision_tower", vision_tower, (str, type(None))),
        ):
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise TypeError(f"{name} is {quoted(value)}")
    _check_llm(llm, source)
    return LlavaConfig(
        llm=llm,
        vision_tower=vision_tower or None,
        projector_type="mlp2x_gelu" if nested else config["mm_projector_type"],
        select_layer=select_layer,
        image_aspect_ratio="pad" if aspect_ratio == "pad" else None,
        text_selection=config.get("accm_text_selection", "farthest"),
        patch_post_layernorm=post_layernorm,
    )


def _check_llm(config: LlamaConfig, source: str) -> None:
    """Refuses sizes with which Llama could be built, and would stumble over the first question."""
    check_numbers(config, source)
    with config_errors(source):
        groups = config.num_attention_heads / config.num_key_value_heads
        if groups % 1 or config.head_dim % 2:
            raise ValueError(
                f"{config.num_attention_heads} heads of {config.head_dim} channels share "
                f"{config.num_key_value_heads} heads of keys"
            )
        factor = config.rope_parameters.get("factor", 1)
        if factor < 1:
            raise ValueError(f"the factor of rope_scaling is {factor}")


# What LLaVA-1.5 has, by the key of config.json that could say otherwise.
_FLAT_VARIANT = {
    "image_aspect_ratio": ("pad", "square", None),
    "mm_vision_select_feature": ("patch", None),
    "mm_use_im_start_end": (False, None),
}
_NESTED_VARIANT = {
    "model_type": ("llava", None),
    "image_aspect_ratio": ("pad", "square", None),
    "vision_feature_select_strategy": ("default", None),
    "projector_hidden_act": ("gelu", None),
}


def _check_variant(config: dict, known: dict[str, tuple], source: str) -> None:
    """Refuses a relative of LLaVA-1.5 that this code would misread."""
    for key, values in known.items():
        if config.get(key) not in values:
            raise UserError(
                f"{source} has {key} {quoted(config[key])}; LLaVA-1.5 has {values[0]!r}, "
                "and no other is supported"
            )


# Keys of a LLaVA checkpoint -> part and name in it, in both layouts; the first match counts.
_LLAVA_KEYS = [
    (r"model\.mm_projector\.", "projector", ""),
    (r"(model\.)?multi_modal_projector\.linear_1\.", "projector", "0."),
    (r"(model\.)?multi_modal_projector\.linear_2\.", "projector", "2."),
    (r"(model\.)?vision_tower\.(vision_tower\.)?(vision_model\.)?", "tower", ""),
    (r"model\.language_model\.", "llm", "model."),
    (r"language_model\.", "llm", ""),
    (r"", "llm", ""),
]
_LLAVA_LANDMARKS = [
    f"{name}.embed_tokens.weight"
    for name in ("language_model.model", "model.language_model", "model")
]


def split_llava(tensors: Tensors, source: str) -> dict[str, dict[str, Tensor]]:
    """The tensors of a LLaVA checkpoint by part: "llm", "projector" and "tower" (may be empty)."""
    parts: dict[str, dict[str, Tensor]] = {"llm": {}, "projector": {}, "tower": {}}
    for key, tensor in unwrap(tensors, _LLAVA_LANDMARKS).items():
        for pattern, part, prefix in _LLAVA_KEYS:
            if start := re.match(pattern, key):
                put_once(parts[part], prefix + key[start.end() :], tensor, source)
                break
    return parts


def empty_llm(config: LlamaConfig, source: str) -> LlamaForCausalLM:
    """Llama without weights."""
    with config_errors(source), init_empty_weights():
        llm = LlamaForCausalLM(config)
        # What it computes from rope_theta and rope_scaling.
        for name, buffer in llm.named_buffers():
            if not buffer.isfinite().all():
                raise ValueError(f"{name} is not finite")
        return llm


def fill_llm(
    llm: LlamaForCausalLM,
    tensors: Tensors,
    source: str,
    dtype: torch.dtype,
    device_of: Callable[[str], torch.device | str | int],
) -> None:
    """Gives an empty Llama its weights."""
    tied = frozenset({"lm_head.weight"} if llm.config.tie_word_embeddings else ())
    fill(llm, tensors, source, dtype, device_of, optional=tied)
    llm.tie_weights()


def build_projector(
    config: LlavaConfig, vision_width: int, tensors: Tensors, source: str, place: Placement
) -> nn.Sequential:
    """The projector from tower to LLM."""
    with config_errors(source), init_empty_weights():
        projector = build_vision_projector(
            config.projector_type, vision_width, config.llm.hidden_size
        )
    fill(projector, tensors, f"{source} (projector)", place.dtype, place.device_of)
    return projector


def _shape(tensors: Tensors, key: str, rank: int, source: str, what: str) -> torch.Size:
    if key not in tensors or tensors[key].dim() != rank:
        raise UserError(f"{source} is not a {what}: it has no tensor {key} of {rank} dimensions")
    return tensors[key].shape


def _count(tensors: Tensors, pattern: str) -> int:
    """How many numbered layers the keys speak of."""
    return len({match[1] for key in tensors if (match := re.match(pattern, key))})

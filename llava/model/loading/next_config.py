"""A LLaVA-NeXT checkpoint (LLaVA v1.6, on Vicuna or Mistral): its config.json and newline token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import LlamaConfig, LlavaNextConfig, MistralConfig

from llava.errors import UserError, quoted
from llava.model.loading.configs import config_errors, picked
from llava.model.loading.llava_config import (
    LLAMA_FIELDS,
    LlavaConfig,
    check_variant,
    is_nested,
    shared_settings,
)
from llava.model.loading.placement import Placement
from llava.model.loading.weights import cast

LLAVA_NEXT = "LLaVA-NeXT"
VICUNA, MISTRAL = "vicuna_v1", "mistral_instruct"  # templates in llava.conversation
# The template by the model_type: of the LLM in transformers' layout, else of the checkpoint.
_TEMPLATES = {
    None: VICUNA,
    "llama": VICUNA,
    "llava": VICUNA,
    "llava_llama": VICUNA,
    "mistral": MISTRAL,
    "llava_mistral": MISTRAL,
}
# Vicuna and Mistral have 32,000 words, and transformers' checkpoints a few more for the image. LLMs
# of other templates, also Llamas by their weights, have twice as many and more.
_MOST_WORDS = 33_000
_NEWLINE_KEYS = ("model.image_newline", "image_newline")
_MOST_RESOLUTIONS, _MOST_PIXELS = 64, 336 * 12


@dataclass(frozen=True)
class NextConfig(LlavaConfig):
    """The settings in a LLaVA-NeXT checkpoint's config.json, in either layout.

    Attributes:
        resolutions: heights and widths in pixels, the best of which an image is scaled to. In both
            layouts they are read as transformers does, heights first.
        template: the name of the conversation template; see llava.conversation.
        describes_all: whether ACCM's captions are of all views (accm_described_views: all), and not
            of the base view alone. A model whose captions were trained so says it.
    """

    resolutions: tuple[tuple[int, int], ...]
    template: str
    describes_all: bool


def is_next(config: dict) -> bool:
    """Returns whether a config.json is LLaVA-NeXT's in the layout of LLaVA's authors."""
    return "text_config" not in config and config.get("image_aspect_ratio") == "anyres"


def read_next_config(config: dict, source: str) -> NextConfig:
    """Parses both layouts: the authors' (``mm_*`` keys) and transformers' (nested).

    Raises:
        UserError: not LLaVA-NeXT on Vicuna or Mistral, or a value does not fit.
    """
    nested = is_nested(config, LLAVA_NEXT, source)
    check_variant(config, _NESTED_VARIANT if nested else _FLAT_VARIANT, LLAVA_NEXT, source)
    llm = config["text_config"] if nested else config
    kind = llm.get("model_type") if isinstance(llm, dict) else quoted(llm)
    template = _TEMPLATES.get(kind) if kind is None or isinstance(kind, str) else None
    if template is None:
        raise UserError(
            f"{source} has an LLM of the kind {quoted(kind)}: LLaVA-NeXT is supported on Vicuna "
            "(llama) and Mistral"
        )
    llama = _llama_of(llm, template == MISTRAL, source)
    return NextConfig(
        **shared_settings(config, nested, llama, source),
        family=LLAVA_NEXT,
        image_aspect_ratio="anyres",
        resolutions=_resolutions(config.get("image_grid_pinpoints"), nested, source),
        template=template,
        describes_all=config.get("accm_described_views", "base") == "all",
    )


def _llama_of(llm: dict, is_mistral: bool, source: str) -> LlamaConfig:
    """Returns the LLM's configuration; a Mistral is a Llama as far as its attention reaches.

    Raises:
        UserError: a value does not fit, or it is a Llama with another template than Vicuna's.
    """
    with config_errors(source):
        if is_mistral:
            fields = (*LLAMA_FIELDS, "sliding_window")
            mistral = MistralConfig(**{name: llm[name] for name in fields if name in llm})
            window, length = mistral.sliding_window, mistral.max_position_embeddings
            llm = mistral.to_dict() | {"max_position_embeddings": min(window or length, length)}
        found = LlamaConfig(**picked(llm, LLAMA_FIELDS))
    if isinstance(found.vocab_size, int) and found.vocab_size > _MOST_WORDS:
        raise UserError(
            f"{source} has an LLM of {found.vocab_size} words, which is neither Vicuna nor Mistral "
            "(LLaVA-NeXT on Yi-34B or Llama 3): name a checkpoint on one of those"
        )
    return found


def _resolutions(given: Any, nested: bool, source: str) -> tuple[tuple[int, int], ...]:
    """Returns the resolutions of a config.json; in transformers' layout they may be left out.

    Raises:
        UserError: they are no pairs of whole numbers, or too many or too large.
    """
    if given is None and nested:
        given = LlavaNextConfig().image_grid_pinpoints
    is_list = isinstance(given, list) and 0 < len(given) <= _MOST_RESOLUTIONS
    if not is_list or not all(_is_size(pair) for pair in given):
        raise UserError(
            f"{source} has image_grid_pinpoints {quoted(given)}: LLaVA-NeXT has a list of pairs of "
            f"whole numbers up to {_MOST_PIXELS}; fetch its config.json again"
        )
    return tuple((pair[0], pair[1]) for pair in given)


def _is_size(pair: object) -> bool:
    return (
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and all(type(side) is int and 0 < side <= _MOST_PIXELS for side in pair)
    )


# LLaVA-NeXT's values, by the key of config.json that could state another.
_FLAT_VARIANT = {
    "image_aspect_ratio": ("anyres",),
    "mm_patch_merge_type": ("spatial_unpad",),
    "mm_vision_select_feature": ("patch", None),
    "mm_use_im_start_end": (False, None),
    "accm_described_views": ("base", "all", None),
}
_NESTED_VARIANT = {
    "model_type": ("llava_next",),
    "vision_feature_select_strategy": ("default", None),
    "projector_hidden_act": ("gelu", None),
    "multimodal_projector_bias": (True, None),
    "use_image_newline_parameter": (True, None),
    "accm_described_views": ("base", "all", None),
}


def take_newline(
    llm: dict[str, Tensor], config: NextConfig, source: str, place: Placement
) -> Tensor:
    """Takes the newline token (D,) out of the tensors of the LLM; see split_llava.

    Raises:
        UserError: it is missing, or not one embedding of the LLM.
    """
    found = [llm.pop(key) for key in _NEWLINE_KEYS if key in llm]
    if len(found) != 1 or found[0].shape != (config.llm.hidden_size,):
        what = " and ".join(str(tuple(one.shape)) for one in found) or "none"
        raise UserError(
            f"{source} is not the file of this model: LLaVA-NeXT has one image_newline of "
            f"{config.llm.hidden_size} numbers, and it has {what}; fetch the weights again"
        )
    return cast(found[0], f"{source}: image_newline", place.dtype, place.device)

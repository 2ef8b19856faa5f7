"""Loads the LLM and its tokenizer from the files of a LLaVA checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from accelerate import dispatch_model, infer_auto_device_map, init_empty_weights
from accelerate.utils import get_max_memory
from transformers import (
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig

from llava.arguments import ModelArguments
from llava.budgets import AskedBudget
from llava.errors import UserError
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.language_model.quantized import bits_config
from llava.model.language_model.qwen import QwenCausalLM
from llava.model.loading.bpe import check_vocabulary
from llava.model.loading.configs import CheckpointConfig, config_errors
from llava.model.loading.llava_config import Tensors
from llava.model.loading.placement import Placement
from llava.model.loading.tensor_files import is_harmless
from llava.model.loading.weights import fill
from llava.model.multimodal_encoder.clip_encoder import VISUAL_TOKEN_NUM
from llava.model.prompt_ids import prompt_ids
from llava.model.sample import DEFAULT_MAX_NEW_TOKENS

# The share of GPU memory for an LLM that is spread over GPUs: the rest is for keys and values.
GPU_SHARE = 0.85
# The causal LM of each configuration.
CAUSAL_LMS = {LlamaConfig: LlamaForCausalLM, Qwen2_5_VLTextConfig: QwenCausalLM}


def load_llm(
    args: ModelArguments, config: CheckpointConfig, tensors: Tensors, source: str, place: Placement
) -> PreTrainedModel:
    """Loads the LLM on one device, or spread over several."""
    if args.bits is not None:
        bits = bits_config(args.load_4bit, place.dtype)
        return load_quantized(config, tensors, source, place, bits)
    llm = empty_llm(config.llm, source)
    if args.device_map is None:
        fill_llm(llm, tensors, source, place.dtype, place.device_of)
        return llm.to(place.device)
    if args.compile:
        raise UserError("--compile works on one device: leave out --compile or --device-map")
    if args.device_map != "auto":
        raise UserError(f"--device-map is {args.device_map!r}; the only choice is auto")
    # The other parts are on their device already, so the measured free memory is the rest.
    free = get_max_memory()
    room = {d: int(size * (1 if d == "cpu" else GPU_SHARE)) for d, size in free.items()}
    spread = infer_auto_device_map(
        llm, room, no_split_module_classes=[type(llm.model.layers[0]).__name__], dtype=place.dtype
    )
    if "disk" in spread.values():
        raise UserError(
            "the LLM does not fit into the memory of the GPUs and the CPU together: use "
            "--dtype bfloat16, a smaller model or a larger machine"
        )
    fill_llm(llm, tensors, source, place.dtype, lambda name: device_in(spread, name))
    return dispatch_model(llm, spread)


def load_quantized(
    config: CheckpointConfig,
    tensors: Tensors,
    source: str,
    place: Placement,
    bits: BitsAndBytesConfig | None,
) -> PreTrainedModel:
    """Returns the LLM with its matrices quantised, except the one that computes the logits.

    Args:
        config: of the checkpoint.
        tensors: the LLM's tensors.
        source: names the checkpoint in errors.
        place: the device of the LLM, and the dtype of the weights that are not quantised.
        bits: from bits_config; None quantises nothing.

    Raises:
        UserError: the tensors are not this model's, or not finite.
    """
    # Checks names, shapes and values, which transformers would not check; the result is dropped.
    looked_at = empty_llm(config.llm, source)
    fill_llm(looked_at, tensors, source, place.dtype, lambda name: torch.device("meta"))
    return type(looked_at).from_pretrained(
        None,
        config=config.llm,
        state_dict={key: tensor for key, tensor in tensors.items() if not is_harmless(key)},
        quantization_config=bits,
        dtype=place.dtype,
        device_map={"": place.device},
    )


def empty_llm(config: PreTrainedConfig, source: str) -> PreTrainedModel:
    """Returns an LLM without weights."""
    with config_errors(source), init_empty_weights():
        llm = CAUSAL_LMS[type(config)](config)
        # The buffers that it computes from rope_theta and rope_scaling.
        for name, buffer in llm.named_buffers():
            if not buffer.isfinite().all():
                raise ValueError(f"{name} is not finite")
        return llm


def fill_llm(
    llm: PreTrainedModel,
    tensors: Tensors,
    source: str,
    dtype: torch.dtype,
    device_of: Callable[[str], torch.device | str | int],
) -> None:
    """Fills an empty LLM with its weights."""
    tied = frozenset({"lm_head.weight"} if llm.config.tie_word_embeddings else ())
    fill(llm, tensors, source, dtype, device_of, optional=tied)
    llm.tie_weights()


def device_in(spread: Mapping[str, int | str], name: str) -> int | str:
    """Returns a parameter's device from a map of modules to devices; "" is the whole model."""
    return next(
        device
        for module, device in spread.items()
        if not module or f"{name}.".startswith(f"{module}.")
    )


def load_llama_tokenizer(folder: Path, config: CheckpointConfig) -> LlamaTokenizer:
    """Returns the LLM's tokenizer.

    Raises:
        UserError: it is missing, damaged or of another model.
    """
    tokenizer = LlamaTokenizer(folder)
    check_vocabulary(tokenizer, config.llm.vocab_size, folder)
    kept: AskedBudget = VISUAL_TOKEN_NUM
    kept = kept if isinstance(kept, int) else 1  # a share keeps at least one
    needed = len(prompt_ids("", tokenizer)) + kept + DEFAULT_MAX_NEW_TOKENS
    if needed > config.llm.max_position_embeddings:
        raise UserError(
            f"{folder} reads {config.llm.max_position_embeddings} positions, by the "
            f"max_position_embeddings of its config.json, and a question and its answer take "
            f"{needed}: fetch the file again"
        )
    return tokenizer

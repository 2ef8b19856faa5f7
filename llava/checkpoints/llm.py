"""The LLM of a LLaVA checkpoint alone, as a plain Llama folder for other engines."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from llava.checkpoints.convert import (
    DTYPES,
    ORIGIN,
    converted,
    origin_of,
    refuse_others,
    write_index,
)
from llava.checkpoints.verify import llava_config_of
from llava.errors import UserError
from llava.files import read_json, replacing, write_json
from llava.model.language_model.builder import empty_llm, fill_llm, load_llama_tokenizer
from llava.model.loading.llava_config import split_llava
from llava.model.loading.next_config import NextConfig, take_newline
from llava.model.loading.placement import Placement
from llava.model.loading.tensor_files import is_harmless
from llava.model.loading.weights import read_checkpoint, weight_files

_SHARD_SIZE = 5 << 30  # bytes
_PATTERN = "model{suffix}.safetensors"
_TOKENIZER = ("tokenizer.model", "special_tokens_map.json", "added_tokens.json")


def convert_llm(source: Path, target: Path, dtype: str | None) -> list[Path]:
    """Writes the LLM of a LLaVA checkpoint to another folder, which any loader of Llama reads.

    Files that this conversion has already written are kept, so that it continues after an
    interruption.

    Args:
        source: folder of LLaVA-1.5 or LLaVA-NeXT, in its authors' layout or in transformers'.
        target: another folder; made if needed.
        dtype: one of DTYPES; None keeps each tensor's.

    Returns:
        The weight files.

    Raises:
        UserError: the source is no LLaVA or is damaged, or the target has other weights or
            cannot be written.
    """
    if target.resolve() == source.resolve():
        raise UserError("the LLM goes to another folder: say which with --output")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"there is no dtype {dtype!r}; there are: {', '.join(DTYPES)}")
    if not source.is_dir():
        raise UserError(f"there is no folder {source}: check the path")
    tensors = _read_llm(source)
    kept = None if dtype is None else DTYPES[dtype]
    shards = split_torch_state_dict_into_shards(
        tensors, filename_pattern=_PATTERN, max_shard_size=_SHARD_SIZE
    ).filename_to_tensors
    origin = _origin(source, dtype)
    try:
        refuse_others(target, dict.fromkeys(shards, origin))
        target.mkdir(parents=True, exist_ok=True)
        for name, keys in tqdm(shards.items(), "converting", unit="file"):
            if not (target / name).is_file():
                of_file = {key: tensors[key] for key in keys}
                _write(target / name, of_file, f"{source}", dtype, origin)
        write_index(target, list(shards))
        _write_small_files(source, target, kept or next(iter(tensors.values())).dtype)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {target} ({reason}): make room there") from error
    return [target / name for name in shards]


def _read_llm(source: Path) -> dict[str, Tensor]:
    """Returns the LLM's tensors by Llama's names, checked."""
    config = llava_config_of(source)
    tensors = split_llava(read_checkpoint(source), str(source))["llm"]
    if isinstance(config, NextConfig):
        place = Placement(torch.device("meta"), torch.float32)
        take_newline(tensors, config, str(source), place)
    llm = empty_llm(config.llm, str(source))
    fill_llm(llm, tensors, str(source), torch.float32, lambda name: torch.device("meta"))
    is_tied = config.llm.tie_word_embeddings
    return {
        key: tensor
        for key, tensor in tensors.items()
        if not is_harmless(key) and not (is_tied and key == "lm_head.weight")
    }


def _origin(source: Path, dtype: str | None) -> str:
    """Returns the identity of a conversion: all weights in their present state, and the dtype."""
    shards = "\n".join(origin_of(shard, dtype) for shard in weight_files(source))
    return f"the LLM of {hashlib.blake2b(shards.encode(), digest_size=16).hexdigest()}"


def _write(
    path: Path, tensors: dict[str, Tensor], source: str, dtype: str | None, origin: str
) -> None:
    """Writes one file of weights, whole or not at all."""
    weights = {
        key: converted(tensor, f"{source}: {key}", dtype).contiguous().clone()
        for key, tensor in tensors.items()
    }
    with replacing(path) as partial:
        save_file(weights, partial, metadata={"format": "pt", ORIGIN: origin})


def _write_small_files(source: Path, target: Path, dtype: torch.dtype) -> None:
    """Writes the configuration and the tokenizer of a plain Llama."""
    config = llava_config_of(source)
    tokenizer = load_llama_tokenizer(source, config)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    names = {
        "architectures": ["LlamaForCausalLM"],
        "dtype": str(dtype).removeprefix("torch."),
        "rope_theta": config.llm.rope_parameters["rope_theta"],  # where older loaders look for it
    }
    write_json(target / "config.json", config.llm.to_dict() | names | ends)
    write_json(target / "generation_config.json", ends)
    for name in _TOKENIZER:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    own = source / "tokenizer_config.json"
    settings = read_json(own) if own.is_file() else {}
    write_json(target / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"} | settings)

"""Recognises files that are not complete weights, and names the way out."""

from __future__ import annotations

from pathlib import Path

from llava.errors import UserError, quoted
from llava.files import read_json

_GGUF = "a GGUF file, which is for llama.cpp: fetch the checkpoint that it was made from"
_WEB_PAGE = "a web page: download the file itself (on the hub: .../resolve/main/...)"

# Patterns of names in a folder -> what the folder is, and the way out; the first match counts.
_FOLDERS = [
    (
        ("mm_projector.bin", "mm_projector.safetensors"),
        "the projector alone (mm_projector.bin), as LLaVA's first stage of training leaves it: use "
        "it with its base in LLaVA (--model-base BASE), save the whole model there, and name that",
    ),
    (
        ("global_step*", "zero_to_fp32.py", "zero_pp_rank_*"),
        "a training checkpoint in DeepSpeed's pieces: put them together with the zero_to_fp32.py "
        "that lies there (python zero_to_fp32.py . pytorch_model.bin)",
    ),
    (
        ("*.distcp", "pytorch_model_fsdp*"),
        "a training checkpoint in FSDP's pieces: put them together with accelerate merge-weights",
    ),
    (
        ("checkpoint-*",),
        "a training run, whose checkpoints are folders in it: name one of them",
    ),
    (
        ("snapshots",),
        "a folder of the hub's cache: name the one in its snapshots folder, or the model as on the "
        "hub (owner/repository)",
    ),
    (("*.gguf", "ggml-*"), _GGUF),
    (
        ("consolidated.*.pth",),
        "Llama's weights as Meta publishes them: fetch them as transformers has them",
    ),
    (
        ("tf_model*.h5", "flax_model*.msgpack", "*.onnx"),
        "weights for TensorFlow, Flax or ONNX only: fetch those for PyTorch",
    ),
    (
        ("*-of-*.safetensors", "*-of-*.bin"),
        "shards without the index that names them (model.safetensors.index.json or "
        "pytorch_model.bin.index.json): download it too",
    ),
]
_LORA = ("adapter_config.json", "adapter_model.*", "non_lora_trainables.bin")
_OTHER_NAMES = ("*.safetensors", "*model*.bin", "*.pth", "*.ckpt")

# The first bytes of a file -> what the file is, and the way out.
_FILES = [
    (
        b"version https://git-lfs",
        "a git-lfs pointer in the place of the file: run git lfs pull there, or download it",
    ),
    (b"GGUF", _GGUF),
    (b"<!doctype html", _WEB_PAGE),
    (b"<html", _WEB_PAGE),
]


def describe_folder(folder: Path) -> str | None:
    """Returns what a folder without a model's weights holds instead, and what to do.

    It returns None if nothing in it is recognised.
    """
    if _has(folder, _LORA):
        return (
            f"{folder} holds LoRA weights (an adapter), which change those of their base "
            f"({_lora_base(folder)}): merge them with LLaVA's scripts/merge_lora_weights.py "
            "--model-path IT --model-base BASE --save-model-path MERGED, and name MERGED"
        )
    for patterns, what in _FOLDERS:
        if _has(folder, patterns):
            return f"{folder} holds {what}"
    return None


def other_weights(folder: Path) -> list[str]:
    """Returns the names of a folder's weight files that no loader reads."""
    return sorted({file.name for pattern in _OTHER_NAMES for file in folder.glob(pattern)})


def refuse_foreign(path: Path) -> None:
    """Refuses a file whose first bytes show that it holds no weights.

    Raises:
        UserError: it is a git-lfs pointer, a web page or another program's file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    for start, what in _FILES:
        if head.startswith(start.lower()):
            raise UserError(f"{path} is {what}")


def _has(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _lora_base(folder: Path) -> str:
    try:
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    except UserError:
        base = None
    return quoted(base) if base else "which its publisher names"

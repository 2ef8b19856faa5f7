"""A stage's output: weights, written atomically, and beside them the record of their making."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Optional

import torch

from llava.errors import UserError
from llava.files import check_target, read_json, replacing, system_errors, write_json
from llava.train.checkpoints import (
    disk_errors,
    flush_to_disk,
    list_checkpoints,
    read_state,
    write_safetensors,
)

RECORD = "training.json"


def save_weights(
    path: Path, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype = torch.float16
) -> None:
    """Writes weights atomically.

    Args:
        path: ends in .safetensors, or in .pt or .pth for a plain dict written by torch.save.
        tensors: by name, on any device; those that share memory are written twice.
        dtype: of the floating-point ones in the file.

    Raises:
        UserError: the folder does not exist, or the disk is full; an older file stays whole then.
    """
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"{path} ends neither in .safetensors nor in .pt or .pth")
    check_target(path)
    kept = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None, copy=True)
        for name, tensor in tensors.items()
    }
    kept = {name: tensor.contiguous() for name, tensor in kept.items()}
    with disk_errors(path.parent), replacing(path) as partial:
        if path.suffix == ".safetensors":
            write_safetensors(partial, kept)
        else:
            torch.save(kept, partial)
        flush_to_disk(partial)


def write_record(
    folder: Path,
    stage: str,
    settings: dict,
    outputs: Sequence[Path],
    inputs: Mapping[str, Path],
    run: Optional[Path] = None,
) -> None:
    """Writes how a stage's weights were made into training.json, beside those of other stages.

    Args:
        folder: of the weights.
        stage: name of the stage; its former record in the file is replaced.
        settings: of the stage, JSON.
        outputs: files it made, in the folder or below.
        inputs: files or folders that it read, by their role.
        run: output folder of the training; its settings, steps and seconds go into the record.

    Raises:
        UserError: a file cannot be read, the record there is no JSON, or the disk is full.
    """
    path = folder / RECORD
    stages = read_json(path) if path.is_file() else {}
    packages = ("torch", "transformers", "accelerate")
    record = {
        "settings": settings,
        "versions": {package: version(package) for package in packages},
        "inputs": {name: hashes_of(source) for name, source in inputs.items()},
        "outputs": {str(output.relative_to(folder)): file_hash(output) for output in outputs},
    }
    if run is not None:
        checkpoints = list_checkpoints(run)
        if not checkpoints:
            raise UserError(f"{run} holds no checkpoint: train first")
        state = read_state(checkpoints[-1])
        spent = {"steps": state["step"], "seconds": round(state["seconds"], 1)}
        record["run"] = read_json(run / "settings.json") | spent
    write_json(path, stages | {stage: record})


def hashes_of(source: Path) -> str | dict[str, str]:
    """Hashes a file with SHA-256; of a folder, all files in it by their relative paths.

    Raises:
        UserError: it does not exist or cannot be read.
    """
    if not source.is_dir():
        return file_hash(source)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return {str(path.relative_to(source)): file_hash(path) for path in files}


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex.

    Raises:
        UserError: it does not exist or cannot be read.
    """
    digest = hashlib.sha256()
    with system_errors(f"read {path}", "check the path"), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

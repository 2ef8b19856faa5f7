"""Conversion of old weight files (.bin, .pt) to safetensors, file by file."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from llava.errors import UserError
from llava.files import replacing, write_json
from llava.model.loading.weights import cast, read_tensors, weight_files

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_INDEX = "model.safetensors.index.json"
_NOT_COPIED = (".bin", ".pt", ".safetensors", ".index.json", ".h5", ".msgpack", ".partial", ".lock")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
ORIGIN = "converted_from"  # key in a file's metadata


def convert(source: Path, target: Path, dtype: str | None) -> list[Path]:
    """Writes the weights of a folder as safetensors to another, with its small files.

    Files that this conversion has already written are kept, so that it continues after an
    interruption. The metadata of each file name its source.

    Args:
        source: folder of a checkpoint.
        target: another folder; made if needed.
        dtype: one of DTYPES; None keeps each tensor's.

    Returns:
        The weight files.

    Raises:
        UserError: the source has no weights or is damaged, or the target has other weights or
            cannot be written.
    """
    if not source.is_dir():
        raise UserError(f"there is no folder {source}: check the path")
    if target.resolve() == source.resolve():
        raise UserError("the converted files go to another folder: say which with --output")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"there is no dtype {dtype!r}; there are: {', '.join(DTYPES)}")
    shards = weight_files(source)
    names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n, _ in enumerate(shards, 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    try:
        origins = {name: origin_of(shard, dtype) for shard, name in zip(shards, names)}
        refuse_others(target, origins)
        target.mkdir(parents=True, exist_ok=True)
        for shard, name in zip(tqdm(shards, "converting", unit="file"), names):
            if not (target / name).is_file():
                _convert_file(shard, target / name, dtype, origins[name])
        write_index(target, names)
        for file in sorted(source.iterdir()):
            if file.is_file() and not file.name.endswith(_NOT_COPIED):
                shutil.copyfile(file, target / file.name)
    # safetensors wraps the system's error in its own.
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {target} ({reason}): make room there") from error
    return [target / name for name in names]


def origin_of(shard: Path, dtype: str | None) -> str:
    """Returns the identity of a conversion: its shard, in its present state, and the dtype."""
    now = shard.stat()
    return f"{shard.name}, {now.st_size} bytes, {now.st_mtime_ns} ns, dtype {dtype}"


def refuse_others(target: Path, origins: dict[str, str]) -> None:
    """Refuses weights in the target that are not from this conversion: they would be mixed.

    Args:
        target: the folder, which need not exist yet.
        origins: origins of the files to write, by their names.
    """
    for file in sorted(file for pattern in _WEIGHTS for file in target.glob(pattern)):
        if _read_origin(file) != origins.get(file.name, ""):
            raise UserError(
                f"{file} was not made from these weights with this dtype: remove it, or convert "
                "into another folder"
            )


def _read_origin(file: Path) -> str | None:
    """Returns the origin in a file's metadata; None if there is none."""
    try:
        with safe_open(file, framework="pt") as opened:
            return (opened.metadata() or {}).get(ORIGIN)
    except SafetensorError:  # damaged, or another kind of file
        return None


def _convert_file(shard: Path, path: Path, dtype: str | None, origin: str) -> None:
    """Converts one file, whole or not at all."""
    tensors = {
        key: converted(tensor, f"{shard}: {key}", dtype).contiguous().clone()
        for key, tensor in read_tensors(shard)
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"format": "pt", ORIGIN: origin})


def converted(tensor: Tensor, source: str, dtype: str | None) -> Tensor:
    """Returns a finite weight in the dtype; a buffer of whole numbers stays unchanged."""
    if not tensor.is_floating_point():
        return tensor
    return cast(tensor, source, tensor.dtype if dtype is None else DTYPES[dtype], "cpu")


def write_index(target: Path, names: list[str]) -> None:
    """Writes the index of tensors by file, if there is more than one file."""
    if len(names) == 1:
        return
    weight_map, size = {}, 0
    for name in names:
        for key, tensor in read_tensors(target / name):
            weight_map[key] = name
            size += tensor.nbytes
    write_json(target / _INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})

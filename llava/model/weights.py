"""Weight files into modules: strict, tensors only, and with an error that helps.

Every parameter must come from the files, and every key of the files must be used or be known not to
matter. Nothing is unpickled that is not a tensor.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from llava.errors import UserError

# File key -> name of the parameter it fills; None: known, and not needed.
Rename = Callable[[str], str | None]

# Buffers that old files carry and that every module computes for itself.
_HARMLESS_ENDINGS = (".inv_freq", ".position_ids", ".attn.bias", ".attn.masked_bias")
_SHARD_INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILE_NAMES = ("model.safetensors", "pytorch_model.bin")
_SHOWN = 4  # how many keys an error names


def is_harmless(key: str) -> bool:
    """Whether a key is a buffer that may stand in a file and is ignored."""
    return key.endswith(_HARMLESS_ENDINGS)


def weight_files(path: Path) -> list[Path]:
    """The weight files of a checkpoint: the file itself, or those of a folder, safetensors first.

    Raises:
        UserError: nothing there, or a shard that the index names is missing.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"there is no checkpoint {path}: check the path, or download it there")
    for name in _SINGLE_FILE_NAMES:
        if (path / name).is_file():
            return [path / name]
    for name in _SHARD_INDEX_NAMES:
        if (path / name).is_file():
            return _shards(path / name)
    looked_for = ", ".join(_SINGLE_FILE_NAMES + _SHARD_INDEX_NAMES)
    raise UserError(f"there are no weights in {path} (looked for {looked_for}): download them there")


def _shards(index_path: Path) -> list[Path]:
    index = read_json(index_path)
    files = [index_path.parent / name for name in sorted(set(index["weight_map"].values()))]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"the shard {file} is missing, though {index_path.name} names it: download it again"
            )
    return files


def read_json(path: Path) -> dict:
    """A JSON object from a file.

    Raises:
        UserError: no such file, or not a JSON object.
    """
    if not path.is_file():
        raise UserError(f"there is no {path.name} in {path.parent}: download it there")
    try:
        value = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): download it again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one file, one by one, on the CPU and as far as possible not yet in memory.

    Raises:
        UserError: damaged, cut short, or holding more than tensors.
    """
    if path.suffix == ".safetensors":
        with _damage_reported(path), safe_open(path, framework="pt") as file:
            for key in file.keys():
                yield key, file.get_tensor(key)
        return
    with _damage_reported(path):
        state = torch.load(
            path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True
        )
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} does not hold a plain dictionary of tensors, as weight files do")
    yield from state.items()


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged or holds more than tensors; it was not unpickled, because a pickle "
            "can run code. Fetch the file again from its publisher"
        ) from error
    except (OSError, EOFError, RuntimeError, SafetensorError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged or cut short ({path.stat().st_size:,} bytes; {reason}): "
            "download it again"
        ) from error


def match_keys(
    expected: Mapping[str, torch.Size],
    found: Mapping[str, torch.Size],
    rename: Rename,
    source: str,
    optional: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Which file key fills which parameter.

    Args:
        expected: parameter -> shape.
        found: file key -> shape.
        rename: file key -> parameter, or None for a key that is known and not needed.
        source: names the file in errors.
        optional: parameters that the file may leave out (because they are tied to others).

    Returns:
        {file key: parameter} of the keys that are used.

    Raises:
        UserError: a parameter without a key, a key without a parameter, or other shapes.
    """
    used = {key: rename(key) for key in found if not is_harmless(key)}
    used = {key: name for key, name in used.items() if name is not None}
    missing = sorted(set(expected) - set(used.values()) - optional)
    unknown = sorted(key for key, name in used.items() if name not in expected)
    other = [
        f"{key}: expected {tuple(expected[name])}, found {tuple(found[key])}"
        for key, name in used.items()
        if name in expected and tuple(expected[name]) != tuple(found[key])
    ]
    problems = [
        _some("missing", missing),
        _some("not known here", unknown),
        _some("of another shape", other),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        raise UserError(f"{source} is not the file of this model: " + "; ".join(problems))
    return used


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} weights {what} ({', '.join(names[:_SHOWN])}{more})"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint (a file, or a folder with shards), as far as possible still on
    disk.

    Raises:
        UserError: see weight_files and read_tensors.
    """
    return {key: tensor for file in weight_files(path) for key, tensor in read_tensors(file)}


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    dtype: torch.dtype,
    device_of: Callable[[str], torch.device | str | int],
    rename: Rename = lambda key: key,
    optional: frozenset[str] = frozenset(),
) -> None:
    """Gives every parameter of a module (which may be on the meta device) its tensor.

    Args:
        module: its parameters' shapes must be those of the tensors.
        tensors: from read_checkpoint.
        source: names the checkpoint in errors.
        dtype: of the module afterwards.
        device_of: where a parameter goes.
        rename, optional: see match_keys.

    Raises:
        UserError: see match_keys.
    """
    expected = {name: p.shape for name, p in module.named_parameters(remove_duplicate=False)}
    found = {key: tensor.shape for key, tensor in tensors.items()}
    names = match_keys(expected, found, rename, source, optional)
    state = {
        name: tensors[key].to(device=device_of(name), dtype=dtype) for key, name in names.items()
    }
    module.load_state_dict(state, strict=False, assign=True)

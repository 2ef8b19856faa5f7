"""Weight files into modules: strict, tensors only, and with an error that helps.

Every parameter must come from the files, and every key of the files must be used or be known not to
matter. Nothing is unpickled that is not a tensor.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from llava.errors import UserError
from llava.files import read_json

# Buffers that old files carry and that every module computes for itself.
_HARMLESS_ENDINGS = (".inv_freq", ".position_ids", ".attn.bias", ".attn.masked_bias")
_SHARD_INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILE_NAMES = ("model.safetensors", "pytorch_model.bin")
_SHOWN = 4  # how many keys an error names


def is_harmless(key: str) -> bool:
    """Whether a key is a buffer that may stand in a file and is ignored."""
    return key.endswith(_HARMLESS_ENDINGS)


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a file, or an index of files, with weights."""
    names = _SINGLE_FILE_NAMES + _SHARD_INDEX_NAMES
    return any((folder / name).is_file() for name in names)


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
    raise UserError(
        f"there are no weights in {path} (looked for {looked_for}): download them there"
    )


def _shards(index_path: Path) -> list[Path]:
    weight_map = read_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(n, str) for n in weight_map.values()):
        raise UserError(f"{index_path} names no weight files: download it again")
    files = [index_path.parent / name for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"the shard {file} is missing, though {index_path.name} names it: download it again"
            )
    return files


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
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
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
    except UserError:
        raise
    except Exception as error:  # a damaged file makes torch stumble in a dozen ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged or cut short ({path.stat().st_size:,} bytes; {reason}): "
            "download it again"
        ) from error


def match_keys(
    expected: Mapping[str, torch.Size],
    found: Mapping[str, torch.Size],
    source: str,
    optional: frozenset[str] = frozenset(),
) -> None:
    """Checks that the keys of a file are the parameters of a module, in the same shapes.

    Args:
        expected: parameter -> shape.
        found: file key -> shape, harmless buffers left out.
        source: names the file in errors.
        optional: parameters that the file may leave out (because they are tied to others).

    Raises:
        UserError: a parameter without a key, a key without a parameter, or other shapes.
    """
    other = [
        f"{key}: expected {tuple(expected[key])}, found {tuple(found[key])}"
        for key in found
        if key in expected and tuple(expected[key]) != tuple(found[key])
    ]
    problems = [
        _some("missing", sorted(set(expected) - set(found) - optional)),
        _some("not known here", sorted(set(found) - set(expected))),
        _some("of another shape", other),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        raise UserError(f"{source} is not the file of this model: " + "; ".join(problems))


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} weights {what} ({', '.join(names[:_SHOWN])}{more})"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint (a file, or a folder with shards), as far as possible still on
    disk.

    Raises:
        UserError: see weight_files and read_tensors; or a tensor stands in two shards.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        for key, tensor in read_tensors(file):
            put_once(tensors, key, tensor, str(file))
    return tensors


def put_once(tensors: dict[str, Tensor], key: str, tensor: Tensor, source: str) -> None:
    """Adds a tensor under a name that is still free.

    Raises:
        UserError: it is taken, so that one of the two would be lost.
    """
    if key in tensors:
        raise UserError(
            f"{source} holds {key} a second time: the checkpoint is mixed up; fetch it again"
        )
    tensors[key] = tensor


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    dtype: torch.dtype,
    device_of: Callable[[str], torch.device | str | int],
    optional: frozenset[str] = frozenset(),
) -> None:
    """Gives every parameter of a module (which may be on the meta device) its tensor.

    Args:
        module: its parameters' names and shapes must be those of the tensors.
        tensors: from read_checkpoint.
        source: names the checkpoint in errors.
        dtype: of the module afterwards.
        device_of: where a parameter goes.
        optional: see match_keys.

    Raises:
        UserError: see match_keys.
    """
    used = {key: tensor for key, tensor in tensors.items() if not is_harmless(key)}
    expected = {name: p.shape for name, p in module.named_parameters(remove_duplicate=False)}
    match_keys(expected, {key: tensor.shape for key, tensor in used.items()}, source, optional)
    state = {key: tensor.to(device=device_of(key), dtype=dtype) for key, tensor in used.items()}
    module.load_state_dict(state, strict=False, assign=True)

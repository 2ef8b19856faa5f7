"""Loads weight files into modules: strict, finite, and with a helpful error.

Every parameter must come from the files, and every key of the files must be used or be known to be
irrelevant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from llava.errors import UserError, shown
from llava.files import is_there, read_json
from llava.model.loading.foreign import describe_folder, other_weights
from llava.model.loading.tensor_files import give_back, is_harmless, read_tensors

_SHARD_INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILE_NAMES = ("model.safetensors", "pytorch_model.bin")
_SHOWN = 4  # number of keys that an error names
# The number of elements to cast and check at once: they fit into a core's cache; a GPU takes more.
_BLOCK, _GPU_BLOCK = 1 << 17, 1 << 24


def has_weights(folder: Path) -> bool:
    """Returns whether a folder holds a file, or an index of files, with weights."""
    names = _SINGLE_FILE_NAMES + _SHARD_INDEX_NAMES
    return any((folder / name).is_file() for name in names)


def weight_files(path: Path) -> list[Path]:
    """Lists the weight files of a checkpoint: the file itself, or a folder's, safetensors first.

    Raises:
        UserError: there are none, or a shard that the index names is missing.
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
    if foreign := describe_folder(path):
        raise UserError(foreign)
    looked_for = ", ".join(_SINGLE_FILE_NAMES + _SHARD_INDEX_NAMES)
    others = other_weights(path)
    rename = f", or give {', '.join(others[:_SHOWN])} such a name if the weights are there"
    raise UserError(
        f"there are no weights in {path} (looked for {looked_for}): download them there"
        + (rename if others else "")
    )


def _shards(index_path: Path) -> list[Path]:
    weight_map = read_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(n, str) for n in weight_map.values()):
        raise UserError(f"{index_path} names no weight files: download it again")
    files = [index_path.parent / name for name in sorted(set(weight_map.values()))]
    for file in files:
        if not (is_there(file) and file.is_file()):
            raise UserError(
                f"the shard {shown(str(file))} is missing, though {index_path.name} names it: "
                "download it again"
            )
    return files


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
    first = ", ".join(shown(name) for name in names[:_SHOWN])
    return f"{len(names)} weights {what} ({first}{more})"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Reads all tensors of a checkpoint (a file, or a folder with shards), lazily if possible.

    Raises:
        UserError: see weight_files and read_tensors; or a tensor stands in two shards.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        for key, tensor in read_tensors(file):
            put_once(tensors, key, tensor, str(file))
    return tensors


def unwrap(tensors: Mapping[str, Tensor], landmarks: Sequence[str]) -> Mapping[str, Tensor]:
    """Removes the prefix that a wrapper (DataParallel, torch.compile, ...) adds to all keys.

    Args:
        tensors: the tensors of a checkpoint.
        landmarks: keys of which every checkpoint of its kind has one; a key that ends in another
            comes before that.

    Returns:
        The tensors by their own names, unchanged if there is no prefix.
    """
    for landmark in landmarks:
        for prefix in (k.removesuffix(landmark) for k in tensors if k.endswith(landmark)):
            if all(key.startswith(prefix) for key in tensors):
                return {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def put_once(tensors: dict[str, Tensor], key: str, tensor: Tensor, source: str) -> None:
    """Adds a tensor under a name that is still free.

    Raises:
        UserError: it is taken, so that one of the two would be lost.
    """
    if key in tensors:
        raise UserError(
            f"{source} holds {shown(key)} a second time: the checkpoint is mixed up; fetch it again"
        )
    tensors[key] = tensor


def split_parts(
    tensors: Mapping[str, Tensor],
    keys: Sequence[tuple[str, str, str]],
    landmarks: Sequence[str],
    source: str,
) -> dict[str, dict[str, Tensor]]:
    """Splits a checkpoint's tensors into its parts; a part may be empty.

    Args:
        tensors: by their keys.
        keys: patterns of keys with the part and the start of the name in it, of which the first
            that matches the start of a key counts.
        landmarks: see unwrap.
        source: names the checkpoint in errors.

    Raises:
        UserError: two tensors have one name.
    """
    parts: dict[str, dict[str, Tensor]] = {part: {} for _, part, _ in keys}
    for key, tensor in unwrap(tensors, landmarks).items():
        for pattern, part, prefix in keys:
            if start := re.match(pattern, key):
                put_once(parts[part], prefix + key[start.end() :], tensor, source)
                break
    return parts


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    dtype: torch.dtype,
    device_of: Callable[[str], torch.device | str | int],
    optional: frozenset[str] = frozenset(),
) -> None:
    """Gives every parameter of a module (which may be on the meta device) its tensor.

    Buffers that a module saves, such as the statistics of a BatchNorm, count as parameters.

    Args:
        module: its parameters' names and shapes must be those of the tensors.
        tensors: from read_checkpoint.
        source: names the checkpoint in errors.
        dtype: of the module afterwards.
        device_of: returns the device of a parameter.
        optional: see match_keys.

    Raises:
        UserError: see match_keys and cast.
    """
    used = {key: tensor for key, tensor in tensors.items() if not is_harmless(key)}
    own = module.state_dict()
    expected = {name: value.shape for name, value in own.items() if not is_harmless(name)}
    match_keys(expected, {key: tensor.shape for key, tensor in used.items()}, source, optional)
    state = {
        key: cast(tensor, f"{source}: {key}", dtype, device_of(key)) for key, tensor in used.items()
    }
    module.load_state_dict(state, strict=False, assign=True)


def cast(
    tensor: Tensor, source: str, dtype: torch.dtype, device: torch.device | str | int
) -> Tensor:
    """Moves a weight to a dtype and a device, and checks that it is finite there.

    Args:
        tensor: floating point numbers on the CPU. A tensor on the meta device has no values to
            check.
        source: names it in errors.
        dtype, device: those of the result, which shares memory with the tensor if nothing changes.
            A tensor moves to the meta device through the CPU.

    Raises:
        UserError: a value is NaN or infinite, or too large for the dtype.
    """
    device = torch.device(device)
    target = torch.device("cpu") if device.type == "meta" else device
    if tensor.is_meta:
        return tensor.to(device, dtype)
    is_same = tensor.dtype == dtype and tensor.device == target
    moved = tensor if is_same else torch.empty_like(tensor, dtype=dtype, device=target)
    # A view that the file stores as one (a column of a matrix) is moved as a whole.
    is_flat = tensor.is_contiguous() and moved.is_contiguous()
    size = (_BLOCK if target.type == "cpu" else _GPU_BLOCK) if is_flat else None
    sums = []
    for part, moved_part in zip(_blocks(tensor, size), _blocks(moved, size)):
        if not is_same:
            moved_part.copy_(part)
        # One pass over the cache, where isfinite takes several; only a sum that overflows or is NaN
        # is checked in detail.
        sums.append(moved_part.sum())
    are_finite = torch.stack(sums).isfinite().tolist()
    if not all(ok or part.isfinite().all() for ok, part in zip(are_finite, _blocks(moved, size))):
        if tensor.isfinite().all():
            raise UserError(f"{source} is too large for {dtype}: use --dtype bfloat16 or float32")
        raise UserError(f"{source} has values that are NaN or infinite: fetch the file again")
    if not is_same:
        give_back(tensor)
    return moved.to(device)


def _blocks(tensor: Tensor, size: int | None) -> Sequence[Tensor]:
    """Splits a contiguous tensor into pieces of that many numbers; with None, any tensor is one."""
    return (tensor,) if size is None else tensor.view(-1).split(size)

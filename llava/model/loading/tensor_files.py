"""Reads one file of weights: whole tensors of the kinds that weights have, and nothing else.

Only tensors are unpickled.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, UntypedStorage

from llava.errors import UserError, shown
from llava.model.loading.foreign import refuse_foreign

# Buffers that old files contain and that every module computes for itself.
_HARMLESS_ENDINGS = (
    *(".inv_freq", ".position_ids", ".attn.bias", ".attn.masked_bias"),
    ".num_batches_tracked",  # of a BatchNorm, which inference does not read
)
# An object that trainers save with the tensors; it only holds attributes.
_PLAIN_CLASSES = [argparse.Namespace]
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Linux's record of each page of this process, 8 bytes a page; see proc(5).
_PAGES, _PAGE_ENTRY = Path("/proc/self/pagemap"), 8
_IN_USE, _OF_FILE = (
    np.uint64(0b11 << 62),
    np.uint64(1 << 61),
)  # a page that was written to belongs to no file
_WORTH_GIVING_BACK = 1 << 20  # bytes
# The keys under which trainers store the weights if they also save other things.
_STATES = ("state_dict", "model_state_dict", "model", "module")


def is_harmless(key: str) -> bool:
    """Tells whether a key is a buffer that is allowed in a file and ignored."""
    return key.endswith(_HARMLESS_ENDINGS)


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of one file on the CPU, without reading their values yet if possible.

    Raises:
        UserError: the file is damaged or truncated, holds other objects than tensors, or has
            tensors that cannot be weights: sparse, quantised, complex, of whole numbers, or without
            values.
    """
    with _damage_reported(path):
        refuse_foreign(path)
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for key in file.keys():
                    yield key, _checked(path, key, file.get_tensor(key))
            return
        state = _load(path)
    for key, tensor in _state(path, state).items():
        yield key, _checked(path, key, tensor)


def give_back(tensor: Tensor) -> None:
    """Releases the memory pages into which a tensor's file was read.

    Nothing is lost: reading the tensor again reads the file again. A tensor that is not in a file,
    or was written to, is not changed. On systems other than Linux nothing happens.
    """
    if tensor.nbytes < _WORTH_GIVING_BACK or not (tensor.is_contiguous() and _PAGES.is_file()):
        return
    first = -(-tensor.data_ptr() // mmap.PAGESIZE)
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE
    if _are_of_files(first, end):
        start, size = first * mmap.PAGESIZE, (end - first) * mmap.PAGESIZE
        advise = ctypes.CDLL(None).madvise
        advise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


def _are_of_files(first: int, end: int) -> bool:
    """Tells whether all pages of a range that are in memory are unchanged pages of a file."""
    with _PAGES.open("rb") as pages:
        pages.seek(first * _PAGE_ENTRY)
        entries = np.frombuffer(pages.read((end - first) * _PAGE_ENTRY), np.uint64)
    return bool(((entries & _IN_USE == 0) | (entries & _OF_FILE != 0)).all())


def _load(path: Path) -> object:
    """Loads a pickle of tensors.

    Raises:
        ValueError: a storage does not have the number of bytes that its tensors state.
    """
    storages: list[UntypedStorage] = []

    def keep(storage: Any, location: str) -> Any:
        storages.append(storage)
        return storage  # on the CPU, wherever it was saved

    is_zip = zipfile.is_zipfile(path)
    with torch.serialization.safe_globals(_PLAIN_CLASSES):
        state = torch.load(path, map_location=keep, mmap=is_zip, weights_only=True)
    if is_zip:
        _check_records(path, storages)
    return state


def _check_records(path: Path, storages: list[UntypedStorage]) -> None:
    """Compares the contents of a zip file with the storages that were read from it.

    torch reads as many bytes as the pickle names from the start of a record, even where the record
    is shorter, or compressed.
    """
    with zipfile.ZipFile(path) as archive:
        records = [r for r in archive.infolist() if re.fullmatch(r"[^/]+/data/[^/]+", r.filename)]
    records.sort(key=lambda record: record.header_offset)
    storages = sorted(storages, key=lambda storage: storage.data_ptr())
    held = [record.file_size for record in records if record.file_size]
    read = [storage.nbytes() for storage in storages if storage.nbytes()]
    if held != read or any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("its tensors and the bytes that it holds do not go together")


def _state(path: Path, state: object) -> Mapping[str, Tensor]:
    """Returns the tensors by their names, even if a trainer saved other things with them."""
    for _ in _STATES:  # a pickle may contain itself
        known = state if isinstance(state, Mapping) else {}
        inner = (known[name] for name in _STATES if isinstance(known.get(name), Mapping))
        state = next(inner, state)
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise UserError(
            f"{path} does not hold a plain dictionary of tensors, as weight files do, nor one "
            f"under the name {', '.join(_STATES[:-1])} or {_STATES[-1]}"
        )
    return state


def _checked(path: Path, key: str, tensor: Tensor) -> Tensor:
    """Returns the tensor, if it is valid as a weight."""
    if tensor.is_meta:
        kind = "has no values (meta device)"
    elif tensor.is_quantized or (tensor.dtype not in _FLOATS and not is_harmless(key)):
        kind = f"is {str(tensor.dtype).removeprefix('torch.')}"
    elif tensor.layout != torch.strided or tensor.is_nested:
        kind = f"is {str(tensor.layout).removeprefix('torch.')}"
    else:
        return tensor
    raise UserError(
        f"{path}: {shown(key)} {kind}, and weights are plain float16, bfloat16 or float32: fetch "
        "the checkpoint as it was before it was quantised or changed"
    )


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
    except Exception as error:  # a damaged file makes torch fail in a dozen ways
        reason = shown(str(error).split("\n")[0] or type(error).__name__)
        raise UserError(
            f"{path} is damaged or cut short ({path.stat().st_size:,} bytes; {reason}): "
            "download it again"
        ) from error

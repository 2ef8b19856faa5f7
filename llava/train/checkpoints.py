"""Checkpoints of a run: folders that are either complete or absent.

    step-00001000/
        model.safetensors   the trained parameters
        optimizer.pt        state of the optimiser and the gradient scaler
        state.json          {"step": ..., "seconds": ...}

A checkpoint is written into ``writing-...``, flushed to the disk, and then renamed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llava.errors import UserError
from llava.files import read_json

_NAME = re.compile(r"step-\d{8,}")
_UNFINISHED = "writing-"


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the complete checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def read_state(checkpoint: Path) -> dict:
    """Reads a checkpoint's step and the seconds that were trained up to it.

    Raises:
        UserError: it is damaged.
    """
    state = read_json(checkpoint / "state.json")
    if not isinstance(state.get("step"), int) or "seconds" not in state:
        raise UserError(f"{checkpoint}/state.json is damaged: delete the folder {checkpoint}")
    return state


def save_checkpoint(
    folder: Path,
    parameters: Mapping[str, torch.Tensor],
    optimiser: dict,
    state: dict,
    keep: int,
) -> None:
    """Writes a checkpoint, then deletes all but the newest ones.

    Args:
        folder: of the checkpoints.
        parameters: the trained ones, by name.
        optimiser: the contents of optimizer.pt.
        state: the contents of state.json; its "step" names the folder.
        keep: number of checkpoints that stay.

    Raises:
        UserError: the disk is full or gone; earlier checkpoints stay as they were.
    """
    path = folder / f"step-{state['step']:08d}"
    partial = folder / f"{_UNFINISHED}{path.name}"
    tensors = {name: p.detach().cpu().contiguous() for name, p in parameters.items()}
    with disk_errors(folder):
        try:
            partial.mkdir()
            write_safetensors(partial / "model.safetensors", tensors)
            torch.save(optimiser, partial / "optimizer.pt")
            (partial / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")
            for written in (*partial.iterdir(), partial):
                flush_to_disk(written)
            os.replace(partial, path)
            flush_to_disk(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        for old in list_checkpoints(folder)[:-keep]:
            # Deleting takes time: a half-deleted folder without its name is no checkpoint.
            doomed = folder / f"{_UNFINISHED}old-{old.name}"
            os.replace(old, doomed)
            shutil.rmtree(doomed)


def load_checkpoint(checkpoint: Path, parameters: Mapping[str, torch.Tensor]) -> dict:
    """Fills the trained parameters from a checkpoint.

    Args:
        checkpoint: its folder.
        parameters: by name; changed in place.

    Returns:
        The saved state of the optimiser.

    Raises:
        UserError: it is damaged or another model's.
    """
    way_out = f"delete the folder {checkpoint}, and the same command goes on from the one before"
    try:
        tensors = load_file(checkpoint / "model.safetensors")
        optimiser = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, zipfile and pickle each have their own
        raise UserError(f"cannot read {checkpoint} ({error}): {way_out}") from error
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if shapes != {name: parameter.shape for name, parameter in parameters.items()}:
        raise UserError(
            f"{checkpoint} holds other parameters than this model trains: name another "
            "--output-dir, or delete this one"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    return optimiser


def clear_unfinished(folder: Path) -> None:
    """Deletes folders that a killed process left half written or half deleted.

    Raises:
        UserError: one cannot be deleted.
    """
    with disk_errors(folder):
        for path in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path)


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes contiguous tensors that share no memory, as transformers reads them."""
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors lets only the owner read it


def flush_to_disk(path: Path) -> None:
    """Waits until a file or folder would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns errors of the disk into one message for the user."""
    try:
        yield
    # torch.save wraps errors of the system into a RuntimeError, safetensors into its own error.
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"cannot write in {path} ({reason}): make room or write elsewhere; the checkpoints "
            "before are whole, and the same command goes on from the newest"
        ) from error

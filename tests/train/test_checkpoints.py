"""Checkpoints are there whole or not at all."""

import json
import resource

import pytest
import torch

from llava.errors import UserError
from llava.train.checkpoints import (
    clear_unfinished,
    list_checkpoints,
    load_checkpoint,
    read_state,
    save_checkpoint,
)


def parameters(value=1.0):
    return {"weight": torch.full((40, 30), value), "bias": torch.full((3,), value)}


def save(folder, step, value=1.0, keep=2):
    save_checkpoint(folder, parameters(value), {"n": 1}, {"step": step, "seconds": 0.5}, keep)


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


def test_a_checkpoint_comes_back(tmp_path):
    save(tmp_path, 7, value=2.5)
    (checkpoint,) = list_checkpoints(tmp_path)
    filled = parameters(0.0)
    assert load_checkpoint(checkpoint, filled) == {"n": 1}
    assert all(torch.equal(filled[name], value) for name, value in parameters(2.5).items())
    assert read_state(checkpoint) == {"step": 7, "seconds": 0.5}


def test_the_newest_stay(tmp_path):
    for step in (5, 10, 100_000_000, 200_000_000):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-100000000", "step-200000000"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("limit", [100, 3000, 6000])
def test_a_full_disk_keeps_the_one_before(tmp_path, limit):
    """The limit breaks the write of the parameters at different places."""
    save(tmp_path, 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(UserError, match="make room or write elsewhere"):
            save_checkpoint(
                tmp_path, parameters(), {"n": torch.ones(9000)}, {"step": 2, "seconds": 0}, 1
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert names(tmp_path) == ["step-00000001"]


def test_what_was_begun_is_cleared_away(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "writing-step-00000002").mkdir()
    (tmp_path / "writing-step-00000002" / "model.safetensors").write_bytes(b"half")
    assert names(tmp_path) == ["step-00000001"]
    clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    save(tmp_path, 1)
    path = tmp_path / "step-00000001" / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="step-00000001.*delete the folder"):
        load_checkpoint(path.parent, parameters())


def test_another_models_checkpoint_is_refused(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(UserError, match="other parameters"):
        load_checkpoint(tmp_path / "step-00000001", {"weight": torch.zeros(2)})


def test_a_damaged_state_is_named(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "step-00000001" / "state.json").write_text(json.dumps({"step": "1"}))
    with pytest.raises(UserError, match="state.json is damaged"):
        read_state(tmp_path / "step-00000001")

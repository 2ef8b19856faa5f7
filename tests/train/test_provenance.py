"""Exported weights and the record beside them."""

import hashlib
import json
import resource

import pytest
import torch
from safetensors.torch import load_file

from llava.errors import UserError
from llava.train.provenance import save_weights, write_record

TENSORS = {"a": torch.randn(40, 30, requires_grad=True), "ids": torch.arange(3)}


def load(path):
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_weights_come_back_in_16_bits(tmp_path, name):
    tied = TENSORS | {"b": TENSORS["a"].T}
    save_weights(tmp_path / name, tied)
    loaded = load(tmp_path / name)
    assert torch.equal(loaded["a"], TENSORS["a"].half())
    assert torch.equal(loaded["b"], TENSORS["a"].half().T)
    assert torch.equal(loaded["ids"], torch.arange(3))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).stat().st_mode & 0o444 == 0o444  # for all to read


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_full_disk_keeps_the_weights_before(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"older")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(UserError, match="make room or write elsewhere"):
            save_weights(path, TENSORS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_weights_go_into_a_folder_that_is_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        save_weights(tmp_path / "missing" / "model.pt", TENSORS)


def test_stages_share_a_record(tmp_path, undisturbed):
    out = tmp_path / "model"
    (out / "tower").mkdir(parents=True)
    (out / "tower" / "model.pt").write_bytes(b"weights")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.txt").write_bytes(b"one")
    outputs, inputs = [out / "tower" / "model.pt"], {"data": tmp_path / "data"}
    write_record(out, "first", {"size": 1}, outputs, inputs)
    write_record(out, "second", {}, outputs, {"weights": outputs[0]}, run=undisturbed)
    write_record(out, "first", {"size": 2}, outputs, inputs)
    record = json.loads((out / "training.json").read_text())
    hashed = hashlib.sha256(b"weights").hexdigest()
    assert record["first"]["settings"] == {"size": 2}
    assert record["first"]["outputs"] == record["first"]["outputs"] | {"tower/model.pt": hashed}
    assert record["first"]["inputs"] == {"data": {"1.txt": hashlib.sha256(b"one").hexdigest()}}
    assert record["second"]["inputs"] == {"weights": hashed}
    assert record["second"]["run"]["steps"] == 24 and record["second"]["run"]["seconds"] > 0
    assert record["second"]["run"]["learning_rate"] == 0.02
    assert set(record["second"]["versions"]) == {"torch", "transformers", "accelerate"}


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="missing.pt"):
        write_record(tmp_path, "first", {}, [tmp_path / "missing.pt"], {})

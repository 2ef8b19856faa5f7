import shutil

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from llava.errors import UserError
from llava.model.weights import fill, read_checkpoint, read_tensors, weight_files


def fill_linear(tensors, **settings):
    module = nn.Linear(3, 2, device="meta")
    fill(module, tensors, "the file", torch.float32, lambda name: "cpu", **settings)
    return module


def linear_tensors(**changes):
    return {"weight": torch.ones(2, 3), "bias": torch.zeros(2)} | changes


def test_all_tensors_are_used():
    assert torch.equal(fill_linear(linear_tensors()).weight, torch.ones(2, 3))


def test_old_buffers_are_harmless():
    extra = {"h.0.attn.bias": torch.ones(1), "x.rotary_emb.inv_freq": torch.ones(4)}
    module = fill_linear(linear_tensors(**extra))
    assert torch.equal(module.weight, torch.ones(2, 3)) and torch.equal(module.bias, torch.zeros(2))


def test_a_parameter_that_only_ends_like_a_buffer_is_not_harmless():
    with pytest.raises(UserError, match="c_attn.bias"):
        fill_linear(linear_tensors(**{"h.0.attn.c_attn.bias": torch.ones(1)}))


@pytest.mark.parametrize(
    "tensors, says",
    [
        ({"weight": torch.ones(2, 3)}, r"1 weights missing \(bias\)"),
        (linear_tensors(other=torch.ones(1)), r"1 weights not known here \(other\)"),
        (linear_tensors(bias=torch.ones(5)), r"bias: expected \(2,\), found \(5,\)"),
    ],
)
def test_what_does_not_fit_is_named(tensors, says):
    with pytest.raises(UserError, match=says):
        fill_linear(tensors)


def test_a_tied_parameter_may_be_left_out():
    module = fill_linear({"weight": torch.ones(2, 3)}, optional=frozenset({"bias"}))
    assert torch.equal(module.weight, torch.ones(2, 3)) and module.bias.is_meta


def test_a_pickle_of_more_than_tensors_is_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match="more than tensors"):
        dict(read_tensors(tmp_path / "trap.pt"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("value", [torch.ones(2), {"a": 1}, {"a": {"b": torch.ones(1)}}])
def test_what_is_no_dictionary_of_tensors(tmp_path, value):
    torch.save(value, tmp_path / "other.pt")
    with pytest.raises(UserError, match="plain dictionary of tensors"):
        dict(read_tensors(tmp_path / "other.pt"))


@pytest.mark.parametrize("keep", [0, 10, 2000])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_file_that_was_cut_short(tmp_path, name, keep):
    tensors = {"weight": torch.ones(500, 3)}
    (save_file if name.endswith("tensors") else torch.save)(tensors, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:keep])
    with pytest.raises(UserError, match="damaged") as error:
        dict(read_tensors(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)


def test_the_old_file_format_is_read(tmp_path):
    torch.save(linear_tensors(), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    assert set(read_checkpoint(tmp_path / "old.bin")) == {"weight", "bias"}


def test_a_missing_shard_is_named(tmp_path, checkpoints):
    folder = tmp_path / "llava"
    shutil.copytree(checkpoints / "llava-v1.5-tiny", folder)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(UserError, match="pytorch_model-00002-of-00002.bin is missing"):
        weight_files(folder)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(UserError, match="no weights in"):
        weight_files(tmp_path)
    with pytest.raises(UserError, match="no checkpoint"):
        weight_files(tmp_path / "nowhere")

import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from llava.errors import UserError
from llava.model.loading.tensor_files import give_back
from llava.model.loading.weights import (
    cast,
    fill,
    read_checkpoint,
    read_tensors,
    unwrap,
    weight_files,
)


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


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "net.student."])
def test_a_prefix_of_every_key_is_taken_off(prefix):
    tensors = {f"{prefix}{key}": tensor for key, tensor in linear_tensors().items()}
    assert unwrap(tensors, ["weight"]).keys() == {"weight", "bias"}


def test_a_prefix_of_some_keys_stays():
    tensors = {"module.weight": torch.ones(1), "bias": torch.ones(1)}
    assert unwrap(tensors, ["weight"]) is tensors


def test_the_first_landmark_counts():
    tensors = {"a.model.x": torch.ones(1), "a.y": torch.ones(1)}
    assert unwrap(tensors, ["model.x", "x"]).keys() == {"model.x", "y"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("place", [0, 299_999])  # in the first block, and in the last
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_value_that_is_not_finite_is_refused(value, dtype, place, device):
    tensor = torch.zeros(300_000, dtype=torch.float16)
    tensor[place] = value
    with pytest.raises(UserError, match="the file: w has values that are NaN or infinite"):
        cast(tensor, "the file: w", dtype, device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(0,), (), (3, 5), (600, 500)])
def test_cast_is_what_to_is(dtype, shape):
    tensor = torch.randn(shape)
    for source in (tensor, tensor.T if tensor.dim() == 2 else tensor, tensor.half()):
        result = cast(source, "x", dtype, "cpu")
        assert torch.equal(result, source.to(dtype)) and result.dtype == dtype
        assert result.stride() == source.to(dtype).stride()


@pytest.mark.parametrize("view", [lambda t: t[:, :6], lambda t: t[::2], lambda t: t[:, ::2]])
def test_views_are_cast_as_they_are(view):
    tensor = view(torch.arange(24.0).reshape(4, 6).half().repeat(1, 2))
    assert cast(tensor, "x", torch.float32, "cpu").equal(tensor.float())
    assert cast(tensor, "x", torch.float16, "cpu").equal(tensor)


def test_large_values_whose_sum_overflows_are_finite():
    tensor = torch.full((300_000,), 60000.0, dtype=torch.float16)
    assert torch.equal(cast(tensor, "x", torch.float16, "cpu"), tensor)


def test_what_needs_no_change_is_not_copied():
    tensor = torch.ones(3)
    assert cast(tensor, "x", torch.float32, "cpu").data_ptr() == tensor.data_ptr()


def test_a_value_too_large_for_the_dtype_is_refused():
    with pytest.raises(UserError, match="too large for torch.float16: use --dtype bfloat16"):
        cast(torch.tensor([1e6]), "x", torch.float16, "cpu")


def test_a_buffer_of_whole_numbers_is_harmless(tmp_path):
    torch.save({"a.position_ids": torch.arange(3), "weight": torch.ones(1)}, tmp_path / "a.pt")
    assert set(read_checkpoint(tmp_path / "a.pt")) == {"a.position_ids", "weight"}


def rezip(path, change, method=zipfile.ZIP_STORED):
    """Writes a pickle of tensors again, with other contents of its records."""
    with zipfile.ZipFile(path) as old:
        records = {record.filename: old.read(record) for record in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in records.items():
            new.writestr(name, change(name, content), method)


def test_a_storage_that_was_cut_is_not_read_as_other_bytes(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(100), "b": torch.zeros(100)}, path)
    rezip(path, lambda name, content: content)
    assert read_checkpoint(path)["a"].sum() == 100
    rezip(path, lambda name, content: content[:40] if name.endswith("data/0") else content)
    with pytest.raises(UserError, match="do not go together"):
        read_checkpoint(path)


def test_compressed_records_are_refused(tmp_path):
    torch.save({"a": torch.ones(100)}, tmp_path / "a.pt")
    rezip(tmp_path / "a.pt", lambda name, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "a.pt")


def test_tensors_that_share_a_storage_are_read(tmp_path):
    tensor = torch.arange(6.0)
    torch.save({"a": tensor, "b": tensor[2:], "empty": torch.ones(0)}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt")["b"].tolist() == [2, 3, 4, 5]


def resident():
    """Bytes of this process in memory."""
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="nobody counts memory here")
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_pages_of_a_file_are_given_back_and_read_again(tmp_path, name):
    values = torch.arange(8 << 20, dtype=torch.float32)  # 32 MB
    save = save_file if name.endswith(".safetensors") else torch.save
    save({"a": values}, tmp_path / name)
    ((_, tensor),) = read_tensors(tmp_path / name)
    assert tensor.equal(values)
    before = resident()
    give_back(tensor)
    assert before - resident() > 30_000_000
    assert tensor.equal(values)


def test_memory_of_no_file_stays():
    tensor = torch.arange(2 << 20)
    give_back(tensor)
    give_back(tensor[::2])
    assert tensor.equal(torch.arange(2 << 20))


def test_conversion_gives_back(tmp_path):
    """The source is not in memory beside what was made of it."""
    if not Path("/proc/self/maps").is_file():
        pytest.skip("nobody counts memory here")
    save_file({"weight": torch.ones(64, 1 << 17)}, tmp_path / "weights.safetensors")  # 32 MB
    ((_, tensor),) = read_tensors(tmp_path / "weights.safetensors")
    before = resident()
    made = cast(tensor, "weight", torch.bfloat16, "cpu")
    assert resident() - before < 24_000_000
    assert made.eq(1).all()

"""Folders and files that people have in the place of whole weights."""

import json

import pytest
import torch

from llava.errors import UserError
from llava.model.loading.configs import read_config
from llava.model.loading.weights import read_checkpoint, read_tensors


@pytest.mark.parametrize(
    "files, says",
    [
        (["adapter_model.bin"], "holds LoRA weights .*merge_lora_weights.py"),
        (["non_lora_trainables.bin", "mm_projector.bin"], "holds LoRA weights"),
        (["adapter_model.safetensors", "global_step500"], "holds LoRA weights"),
        (["mm_projector.bin"], "the projector alone .*--model-base"),
        (["global_step500", "latest", "zero_to_fp32.py"], "DeepSpeed's pieces.*zero_to_fp32.py"),
        (["__0_0.distcp"], "FSDP's pieces"),
        (["checkpoint-500", "checkpoint-1000"], "name one of them"),
        (["snapshots", "refs"], "the hub's cache"),
        (["llava.Q4_K_M.gguf"], "llama.cpp"),
        (["consolidated.00.pth"], "as Meta publishes"),
        (["flax_model.msgpack"], "fetch those for PyTorch"),
        (["model-00001-of-00002.safetensors"], "shards without the index"),
        (["ema_model.safetensors"], "no weights in .* give ema_model.safetensors such a name"),
        (["optimizer.pt"], "no weights in"),
    ],
)
def test_a_folder_of_another_kind_says_what_it_is(tmp_path, files, says):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=says) as error:
        read_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_an_adapter_names_its_base_also_without_a_config(tmp_path):
    config = {"base_model_name_or_path": "lmsys/vicuna-7b-v1.5"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="LoRA .*'lmsys/vicuna-7b-v1.5'"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", json.dumps({"base_model_name_or_path": "a\n" * 999})]
)
def test_a_damaged_adapter_config_hides_nothing(tmp_path, content):
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(UserError, match="LoRA") as error:
        read_checkpoint(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="name the folder"):
        read_config(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
@pytest.mark.parametrize(
    "content, says",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"GGUF\x03\0\0\0", "llama.cpp"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
    ],
)
def test_a_file_of_another_kind_says_what_it_is(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        dict(read_tensors(tmp_path / name))


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "module"])
def test_weights_beside_what_a_trainer_saves(tmp_path, name):
    torch.save({name: {"weight": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt")["weight"].tolist() == [1, 1]


def test_a_dictionary_that_holds_itself(tmp_path):
    state = {}
    state["model"] = state
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(UserError, match="plain dictionary"):
        read_checkpoint(tmp_path / "a.pt")

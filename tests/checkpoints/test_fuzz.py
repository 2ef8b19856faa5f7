"""Any bytes in the place of a file of a checkpoint give a result or one line."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from transformers import GPT2Tokenizer

from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.loading.bpe import read_bpe
from llava.model.loading.configs import clip_config, gpt2_config, read_config
from llava.model.loading.llava_config import read_llava_config
from llava.model.loading.weights import read_checkpoint, weight_files
from llava.model.multimodal_encoder.builder import load_processor
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer

MINI = Path(__file__).parents[2] / "checkpoints" / "accm-mini"
CLIP = MINI / "clip-vit-mini-patch8-96"
NESTED = {
    "model_type": "llava",
    "text_config": {"model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "vision_feature_layer": -2,
}
LORA = {"peft_type": "LORA", "base_model_name_or_path": "lmsys/vicuna-7b-v1.5"}
INDEX = {"metadata": {"total_size": 5}, "weight_map": {"a": "a.safetensors", "b": "a.safetensors"}}
PROCESSOR = {
    "crop_size": 96,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.3, 0.3, 0.3],
    "size": {"shortest_edge": 96},
    "resample": 3,
}
TENSORS = {"weight": torch.ones(2, 3), "x.position_ids": torch.arange(3)}


def pickled(value, **settings):
    buffer = io.BytesIO()
    torch.save(value, buffer, **settings)
    return buffer.getvalue()


# What is read: the file, the folder that it lies in (None: an empty one), the reader, sound files.
READERS = {
    "llava config": (
        "config.json",
        None,
        lambda folder: read_llava_config(read_config(folder), "x"),
        [(MINI / "config.json").read_bytes(), json.dumps(NESTED).encode()],
    ),
    "clip config": (
        "config.json",
        None,
        lambda folder: clip_config(read_config(folder), "x"),
        [(CLIP / "config.json").read_bytes()],
    ),
    "gpt2 config": (
        "config.json",
        None,
        lambda folder: gpt2_config(read_config(folder), "x"),
        [(MINI / "gpt2" / "config.json").read_bytes()],
    ),
    "adapter config": ("adapter_config.json", None, read_config, [json.dumps(LORA).encode()]),
    "index": ("model.safetensors.index.json", None, weight_files, [json.dumps(INDEX).encode()]),
    "processor": (
        "preprocessor_config.json",
        None,
        lambda folder: load_processor(folder, 96),
        [json.dumps(PROCESSOR).encode()],
    ),
    "gpt2 vocabulary": (
        "vocab.json",
        MINI / "gpt2",
        lambda folder: read_bpe(GPT2Tokenizer, folder),
        [(MINI / "gpt2" / "vocab.json").read_bytes()],
    ),
    "gpt2 merges": (
        "merges.txt",
        MINI / "gpt2",
        lambda folder: read_bpe(GPT2Tokenizer, folder),
        [(MINI / "gpt2" / "merges.txt").read_bytes()],
    ),
    "gpt2 tokenizer config": (
        "tokenizer_config.json",
        MINI / "gpt2",
        lambda folder: read_bpe(GPT2Tokenizer, folder),
        [(MINI / "gpt2" / "tokenizer_config.json").read_bytes()],
    ),
    "clip vocabulary": ("vocab.json", CLIP, ClipTokenizer, [(CLIP / "vocab.json").read_bytes()]),
    "llama tokenizer config": (
        "tokenizer_config.json",
        MINI,
        LlamaTokenizer,
        [(MINI / "tokenizer_config.json").read_bytes()],
    ),
    "llama tokenizer": (
        "tokenizer.model",
        None,
        LlamaTokenizer,
        [(MINI / "tokenizer.model").read_bytes()],
    ),
    "safetensors": ("model.safetensors", None, read_checkpoint, [save(TENSORS)]),
    "pickle": (
        "pytorch_model.bin",
        None,
        read_checkpoint,
        [
            pickled(TENSORS),
            pickled({"state_dict": TENSORS, "epoch": 3}),
            pickled(TENSORS, _use_new_zipfile_serialization=False),
        ],
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_any_bytes_give_a_result_or_one_line(tmp_path, fuzz, name):
    file, beside, read, seeds = READERS[name]
    for other in beside.iterdir() if beside else ():
        if other.is_file() and other.suffix in (".json", ".txt", ".model"):
            shutil.copy(other, tmp_path)

    def read_bytes(content):
        (tmp_path / file).write_bytes(content)
        return read(tmp_path)

    fuzz(read_bytes, seeds)

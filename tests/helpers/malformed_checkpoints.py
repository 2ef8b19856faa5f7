"""Malformed checkpoints: copies of the mini model with one thing wrong in each.

``DAMAGES`` maps a name ("part/what") to what is done to a copy. A copy is made of links to the
model's files, so whatever is changed is written anew.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save

CLIP = "clip-vit-mini-patch8-96"
WEIGHTS = {
    "model": "model.safetensors",
    "vision_tower": f"{CLIP}/model.safetensors",
    "caption_model": "accm/coco_prefix-009.pt",
    "longclip": "longclip-L.pt",
    "selector": "accm/llava-RL_prefix-019.pt",
}
CONFIGS = {
    "model": "config.json",
    "vision_tower": f"{CLIP}/config.json",
    "gpt2": "gpt2/config.json",
}

Damage = Callable[[Path], None]


def copy(source: Path, folder: Path) -> Path:
    """Makes a copy to be damaged."""
    shutil.copytree(source, folder, copy_function=os.symlink)
    return folder


def put(path: Path, content: bytes | str) -> None:
    """Writes a file in the place of a link."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def pickled(value: object) -> bytes:
    """A value as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def read(path: Path) -> dict:
    """The tensors of a weight file."""
    load = load_file if path.suffix == ".safetensors" else partial(torch.load, weights_only=True)
    return load(path)


def write(path: Path, tensors: dict) -> None:
    """Writes tensors over a weight file; of a kind that safetensors does not know, beside it."""
    try:
        content = save(tensors) if path.suffix == ".safetensors" else pickled(tensors)
    except (ValueError, KeyError, RuntimeError, NotImplementedError):
        path.unlink()
        path, content = path.with_name("pytorch_model.bin"), pickled(tensors)
    put(path, content)


# Values of json files ---------------------------------------------------------------------------


def set_values(name: str, changes: dict) -> Damage:
    """Changes values of a json file; a name with a dot is one of an object in it."""

    def damage(folder: Path) -> None:
        config = json.loads((folder / name).read_text())
        for key, value in changes.items():
            *outer, last = key.split(".")
            (config[outer[0]] if outer else config)[last] = value
        put(folder / name, json.dumps(config))

    return damage


_SIZES = [-5, 0, 10**9, 10**400 if False else 2**70, "x", 1.5, [1], None, True]
_VALUES = {
    "model": {
        "num_hidden_layers": [*_SIZES, 6, 4],
        "hidden_size": [-5, 0, 10**9, "x", 64, [1]],
        "vocab_size": [-5, 0, 10**9, "x", 10, 696],
        "max_position_embeddings": [-5, 0, 1, 20, "x", 1.5],
        "num_attention_heads": [0, -4, 3, 128, "x"],
        "num_key_value_heads": [0, -1, 3, 10**9, "x"],
        "intermediate_size": [-1, 0, 10**12, "x", 100],
        "head_dim": [-3, 1, 10**9, "x"],
        "rms_norm_eps": [-1.0, 1e308, "x", []],
        "rope_theta": [-1, 0, 1e-300, "x", []],
        "rope_scaling": [5, {"type": "evil"}, {"rope_type": "linear", "factor": -3}, {"a": 1}],
        "hidden_act": ["nope", 5, ""],
        "tie_word_embeddings": ["no", 5, False],
        "mm_vision_select_layer": [999, -999, 5, "x", None, 1.5, True, []],
        "mm_vision_tower": [
            "a" * 5000,
            "\x00",
            "",
            5,
            "./nowhere",
            "../..",
            "nowhere/../x",
            "x\ny",
        ],
        "mm_projector_type": ["linear", None, 5, "a" * 5000],
        "accm_text_selection": ["evil", 5, [], "a" * 5000],
        "accm_patch_post_layernorm": ["no", 5, None],
        "image_aspect_ratio": ["anyres", 5, {"a": 1}],
        "quantization_config": [{"quant_method": "awq", "bits": 4}, 5],
        "text_config": [{}, [], None, 5],
        "attention_bias": ["x", True],
    },
    "vision_tower": {
        "vision_config": [None, [], 5, "x", {}],
        "text_config": [None, [], {}],
        "projection_dim": [-1, 0, 10**9, "x", None, 32],
        "vision_config.image_size": [-96, 0, 10**9, "x", [96, 96], 104, 95],
        "vision_config.patch_size": [0, -8, 10**9, "x", 1],
        "vision_config.num_hidden_layers": [-1, 0, 10**9, "x", 2],
        "vision_config.num_attention_heads": [0, 3, -4, "x"],
        "vision_config.hidden_act": ["nope", 5],
        "vision_config.layer_norm_eps": [-1.0, 1e300, "x"],
        "vision_config.num_channels": [0, -3, 10**9, 1],
        "text_config.eos_token_id": [0, 5, -1, "x", [1], 2],
        "text_config.vocab_size": [0, -1, 10, 10**9, "x"],
        "text_config.max_position_embeddings": [0, 1, 10**9, "x"],
        "text_config.num_hidden_layers": [10**9, "x", 1],
        "return_dict": [False],
        "_attn_implementation": ["evil"],
        "text_config_dict": [{"hidden_size": "x"}, 5],
    },
    "gpt2": {
        "vocab_size": ["x", 0, -1, 10**9, 10, 603],
        "n_layer": ["x", 0, -1, 10**9, 2],
        "n_positions": ["x", 0, -1, 10**9, 100],
        "n_embd": ["x", 0, -1, 10**9, 64],
        "n_head": [0, 3, "x"],
        "n_inner": [-1, 10**9, "x", 5],
        "layer_norm_epsilon": [-1.0, 1e300, "x"],
        "activation_function": ["nope", 5],
        "tie_word_embeddings": [False],
        "return_dict": [False],
        "add_cross_attention": [True],
        "quantization_config": [5],
        "": [1],
        "self": [1],
    },
}

# Whole json files and tokenizers ----------------------------------------------------------------

_JSON_FILES = {
    "model/config": "config.json",
    "model/tokenizer_config": "tokenizer_config.json",
    "vision_tower/config": f"{CLIP}/config.json",
    "vision_tower/preprocessor": f"{CLIP}/preprocessor_config.json",
    "vision_tower/vocab": f"{CLIP}/vocab.json",
    "vision_tower/merges": f"{CLIP}/merges.txt",
    "gpt2/config": "gpt2/config.json",
    "gpt2/vocab": "gpt2/vocab.json",
    "gpt2/merges": "gpt2/merges.txt",
    "gpt2/tokenizer_config": "gpt2/tokenizer_config.json",
    "model/sentencepiece": "tokenizer.model",
}
_CONTENTS = {
    "empty": b"",
    "half": b'{"a": ',
    "list": b"[]",
    "null": b"null",
    "nan": b'{"a": NaN}',
    "latin": b'{"a": "\xe9\xff"}',
    "deep": b'{"a": ' + b"[" * 100_000,
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
}


def put_in_place(name: str, content: bytes) -> Damage:
    return lambda folder: put(folder / name, content)


def make_folder(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def make_loop(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder / name)

    return damage


def change_vocabulary(name: str, change: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        put(folder / name, json.dumps(change(json.loads((folder / name).read_text()))))

    return damage


_VOCABULARIES = {
    "one id": lambda words: dict.fromkeys(words, 0),
    "a pair": lambda words: words | {list(words)[5]: 6},
    "a gap": lambda words: {w: i + (i > 9) for w, i in words.items()},
    "beyond the table": lambda words: {w: i + 1000 for w, i in words.items()},
    "negative": lambda words: {w: i - 1 for w, i in words.items()},
    "texts": lambda words: {w: str(i) for w, i in words.items()},
    "half": lambda words: dict(list(words.items())[: len(words) // 2]),
    "more": lambda words: words | {f"new{i}": len(words) + i for i in range(9)},
    "huge": lambda words: words | {"new": 2**40},
}
_PROCESSORS = [
    {"crop_size": 224, "size": 224},
    {"image_mean": [0.5]},
    {"image_std": [0, 0, 0]},
    {"image_std": "x"},
    {"rescale_factor": 1e308},
    {"resample": 99},
    {"size": {"shortest_edge": -1}},
    {"size": {"shortest_edge": 10**9}},
    {"do_resize": False},
    {"crop_size": {"height": 96}},
    {"image_processor_type": "evil"},
]

# Weights ----------------------------------------------------------------------------------------


def change_tensor(part: str, change: Callable[[torch.Tensor], object]) -> Damage:
    """Changes the largest tensor of a part."""

    def damage(folder: Path) -> None:
        path = folder / WEIGHTS[part]
        tensors = read(path)
        key = max(tensors, key=lambda name: (tensors[name].dim() == 2, tensors[name].numel()))
        write(path, tensors | {key: change(tensors[key])})

    return damage


def change_tensors(part: str, change: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / WEIGHTS[part]
        tensors = change(read(path))
        if path.suffix == ".safetensors":
            path.unlink()
            path = path.with_name("pytorch_model.bin")
        put(path, pickled(tensors))

    return damage


def change_bytes(part: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        put(folder / WEIGHTS[part], change((folder / WEIGHTS[part]).read_bytes()))

    return damage


def with_one(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Puts one value into a tensor."""
    return lambda t: t.clone().index_fill_(0, torch.tensor([len(t) // 2]), value)


def rezipped(change: Callable[[zipfile.ZipInfo, bytes], bytes], method: int) -> Damage:
    """Writes a part's pickle again, each record changed."""

    def again(part: str, folder: Path) -> None:
        name = WEIGHTS[part]
        content = pickled(read(folder / name))
        if name.endswith(".safetensors"):
            (folder / name).unlink()
            name = str(Path(name).with_name("pytorch_model.bin"))
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
            for record in old.infolist():
                new.writestr(record.filename, change(record, old.read(record)), method)
        put(folder / name, buffer.getvalue())

    return again


def _cut_storage(record: zipfile.ZipInfo, content: bytes) -> bytes:
    return content[: len(content) // 2] if record.filename.endswith("/data/3") else content


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple:
        return (exec, ("open('sprung', 'w')",))


_TENSORS = {
    "nan": with_one(float("nan")),
    "inf": with_one(float("inf")),
    "-inf": with_one(float("-inf")),
    "complex": lambda t: t.to(torch.complex64),
    "int64": lambda t: (t * 100).long(),
    "int8": lambda t: t.to(torch.int8),
    "bool": lambda t: t > 0,
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "sparse": lambda t: t.float().to_sparse(),
    "meta": lambda t: t.to("meta"),
    "quantised": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "transposed": lambda t: t[:, :-1].contiguous(),
    "scalar": lambda t: torch.zeros((), dtype=t.dtype),
    "empty": lambda t: t[:0],
}
_DICTIONARIES = {
    "missing key": lambda tensors: dict(list(tensors.items())[1:]),
    "other key": lambda tensors: tensors | {"evil": torch.ones(2)},
    "number for a name": lambda tensors: tensors | {5: torch.ones(2)},
    "long name": lambda tensors: tensors | {"a\n" * 5000: torch.ones(2)},
    "no tensor": lambda tensors: tensors | {"step": 5},
    "list": lambda tensors: list(tensors.values()),
    "number": lambda tensors: 5,
    "nothing": lambda tensors: {},
    "code": lambda tensors: tensors | {"trap": Trap()},
}
_FILES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) * 2 // 3],
    "a few bytes": lambda content: content[:10],
    "noise": lambda content: bytes(range(256)) * 50,
    "lfs": lambda content: _CONTENTS["lfs"],
    "web page": lambda content: b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "gguf": lambda content: b"GGUF" + content[:500],
    "plain pickle": lambda content: pickle.dumps({"a": Trap()}),
    "other archive": lambda content: _archive({"a.txt": b"x"}),
    "zeros in front": lambda content: b"\0" * 100 + content[100:],
}


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# Folders of another kind -------------------------------------------------------------------------


def instead(*files: str, contents: bytes = b"") -> Damage:
    """Puts other files in the place of the LLM's weights."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        for name in files:
            put(folder / name, contents)

    return damage


_FOLDERS = {
    "lora": instead("adapter_config.json", "adapter_model.bin", "non_lora_trainables.bin"),
    "lora in safetensors": instead("adapter_model.safetensors", "adapter_config.json"),
    "projector": instead("mm_projector.bin"),
    "deepspeed": instead("zero_to_fp32.py", "latest", "global_step5/mp_rank_00_model_states.pt"),
    "fsdp": instead("pytorch_model_fsdp.bin"),
    "training run": instead("checkpoint-500/trainer_state.json"),
    "gguf": instead("llava.Q4_K_M.gguf"),
    "meta": instead("consolidated.00.pth", "params.json"),
    "tensorflow": instead("tf_model.h5"),
    "shards without index": instead("model-00001-of-00002.safetensors"),
    "other name": instead("ema_model.safetensors"),
    "index without shards": instead(
        "model.safetensors.index.json", contents=b'{"weight_map": {"a": "model-1.safetensors"}}'
    ),
    "index of nothing": instead("model.safetensors.index.json", contents=b'{"weight_map": {}}'),
    "index of a number": instead("model.safetensors.index.json", contents=b'{"weight_map": 5}'),
    "index of long names": instead(
        "model.safetensors.index.json",
        contents=json.dumps({"weight_map": {"a": "b" * 5000}}).encode(),
    ),
    "index of odd names": instead(
        "model.safetensors.index.json", contents=b'{"weight_map": {"a": "\\u0000", "b": ""}}'
    ),
    "nothing": instead(),
}


def _all() -> dict[str, Damage]:
    found: dict[str, Damage] = {}
    for part, fields in _VALUES.items():
        for field, values in fields.items():
            for number, value in enumerate(values):
                found[f"{part}/{field} {number}"] = set_values(CONFIGS[part], {field: value})
    for what, name in _JSON_FILES.items():
        found |= {f"{what} {kind}": put_in_place(name, c) for kind, c in _CONTENTS.items()}
        found |= {f"{what} folder": make_folder(name), f"{what} loop": make_loop(name)}
    for kind, change in _VOCABULARIES.items():
        found[f"vision_tower/vocab {kind}"] = change_vocabulary(f"{CLIP}/vocab.json", change)
        found[f"gpt2/vocab {kind}"] = change_vocabulary("gpt2/vocab.json", change)
    for number, value in enumerate(_PROCESSORS):
        content = json.dumps(value).encode()
        name = f"{CLIP}/preprocessor_config.json"
        found[f"vision_tower/processor {number}"] = put_in_place(name, content)
    for part, name in WEIGHTS.items():
        found |= {f"{part}/{k} weights": change_tensor(part, c) for k, c in _TENSORS.items()}
        found |= {f"{part}/{k} in dict": change_tensors(part, c) for k, c in _DICTIONARIES.items()}
        found |= {f"{part}/{k} file": change_bytes(part, c) for k, c in _FILES.items()}
        found[f"{part}/cut storage"] = partial(rezipped(_cut_storage, 0), part)
        found[f"{part}/compressed"] = partial(rezipped(lambda r, c: c, 8), part)
        found[f"{part}/weights loop"] = make_loop(name)
        found[f"{part}/weights folder"] = make_folder(name)
    return found | {f"model/folder {kind}": damage for kind, damage in _FOLDERS.items()}


DAMAGES = _all()
# Whoever loads one of these in silence answers with other weights than those of the file.
BAD_WEIGHTS = [
    name
    for name in DAMAGES
    if name.split("/")[1].split(" ")[0]
    in {"nan", "inf", "-inf", "complex", "int64", "sparse", "meta"}
    and name.endswith("weights")
    or name.endswith(("cut storage", "vocab one id"))
]

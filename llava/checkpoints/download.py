"""The published checkpoints: where the hub has them, and fetched from there into their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llava.download.hub import Repository, fetch_files
from llava.download.line import USUAL, Network
from llava.errors import UserError


@dataclass(frozen=True)
class Published:
    """A checkpoint of the Hugging Face hub.

    Attributes:
        repository: its name there.
        files: which of its files are wanted, as patterns; each must match. Of several with "|"
            between them the first that matches counts.
        target: folder under the checkpoints root.
        gigabytes: about so much is fetched; from memory, the hub says it exactly.
        licence: as its publisher states it.
        flat: whether the files lose the folders that they have on the hub.
    """

    repository: str
    files: tuple[str, ...]
    target: str
    gigabytes: float
    licence: str
    flat: bool = False


_LLAVA_FILES = ("*.json", "tokenizer.model", "*.safetensors|pytorch_model*.bin")
_QWEN_FILES = ("*.json", "merges.txt", "*.safetensors")
_LLAVA_LICENCE = "Llama 2 Community License"

PUBLISHED = {
    "llava-v1.5-7b": Published(
        "liuhaotian/llava-v1.5-7b", _LLAVA_FILES, "llava-v1.5-7b", 13.5, _LLAVA_LICENCE
    ),
    "llava-v1.5-13b": Published(
        "liuhaotian/llava-v1.5-13b", _LLAVA_FILES, "llava-v1.5-13b", 26.1, _LLAVA_LICENCE
    ),
    "llava-v1.6-vicuna-7b": Published(
        "liuhaotian/llava-v1.6-vicuna-7b",
        _LLAVA_FILES,
        "llava-v1.6-vicuna-7b",
        14.1,
        _LLAVA_LICENCE,
    ),
    "llava-v1.6-vicuna-13b": Published(
        "liuhaotian/llava-v1.6-vicuna-13b",
        _LLAVA_FILES,
        "llava-v1.6-vicuna-13b",
        26.7,
        _LLAVA_LICENCE,
    ),
    "llava-v1.6-mistral-7b": Published(
        "liuhaotian/llava-v1.6-mistral-7b",
        _LLAVA_FILES,
        "llava-v1.6-mistral-7b",
        15.1,
        "Apache-2.0",
    ),
    "qwen2.5-vl-3b": Published(
        "Qwen/Qwen2.5-VL-3B-Instruct", _QWEN_FILES, "qwen2.5-vl-3b", 7.5, "Qwen Research License"
    ),
    "qwen2.5-vl-7b": Published(
        "Qwen/Qwen2.5-VL-7B-Instruct", _QWEN_FILES, "qwen2.5-vl-7b", 16.6, "Apache-2.0"
    ),
    "clip": Published(
        "openai/clip-vit-large-patch14-336",
        ("*.json", "merges.txt", "*.safetensors|pytorch_model.bin"),
        "clip-vit-large-patch14-336",
        1.7,
        "not stated; CLIP's code is MIT",
    ),
    "gpt2": Published(
        "openai-community/gpt2", ("config.json", "vocab.json", "merges.txt"), "gpt2", 0.002, "MIT"
    ),
    "longclip": Published(
        "BeichenZhang/LongCLIP-L",
        ("*longclip-L.pt",),
        ".",
        1.7,
        "see its page on the hub",
        flat=True,
    ),
    "accm": Published(
        "fumingyu064/ACCM",
        ("*coco_prefix-009.pt", "*llava-RL_prefix-019.pt"),
        "accm",
        0.7,
        "see its page on the hub",
        flat=True,
    ),
    "scene-graph": Published(
        "fumingyu064/ACCM",
        ("*checkpoint0104.pth",),
        "accm",
        0.1,
        "see its page on the hub",
        flat=True,
    ),
}
# What the method needs on the 7B model.
ALL = ("llava-v1.5-7b", "clip", "gpt2", "longclip", "accm")


def plan(names: Sequence[str]) -> list[Published]:
    """Returns the checkpoints that a list of names stands for.

    Raises:
        UserError: one of them is unknown, or there is none.
    """
    known = f"{', '.join(PUBLISHED)}, or all ({', '.join(ALL)})"
    if not names:
        raise UserError(f"say what to fetch: {known}")
    wanted = [part for name in names for part in (ALL if name == "all" else [name])]
    for name in wanted:
        if name not in PUBLISHED:
            raise UserError(f"there is no checkpoint {name!r} to fetch; there are: {known}")
    return [PUBLISHED[name] for name in dict.fromkeys(wanted)]


def download(checkpoint: Published, root: Path, network: Network = USUAL) -> list[Path]:
    """Fetches a checkpoint; half a file is gone on with.

    What is there is compared with the size and the hash that the hub states, and fetched again
    where it differs.

    Args:
        checkpoint: of PUBLISHED.
        root: the checkpoints root.
        network: how the hub is reached.

    Returns:
        Its files.

    Raises:
        UserError: it cannot be fetched, or there is no room for it.
    """
    return fetch_files(
        Repository(checkpoint.repository, "model", network),
        checkpoint.files,
        root / checkpoint.target,
        checkpoint.flat,
    )

"""Whether checkpoints are whole and of one model, without loading them.

Each part is built on torch's meta device from the shapes in its files: what would not load is
found, in seconds and without memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Tokenizer

from llava.errors import UserError
from llava.files import read_json
from llava.model.bpe import read_bpe
from llava.model.builder import (
    ModelArguments,
    check_vocabulary,
    load_processor,
    locate_part,
    locate_parts,
)
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.parts import (
    Placement,
    build_caption_model,
    build_clip,
    build_long_clip,
    build_projector,
    build_selector,
    empty_llm,
    fill_llm,
    read_llava_config,
    split_llava,
)
from llava.model.weights import read_checkpoint, weight_files

_META = Placement(torch.device("meta"), torch.float16)


@dataclass(frozen=True)
class Verdict:
    """What was found out about one part.

    Attributes:
        part: its name.
        path: where it lies; None where it was not found.
        problem: what is wrong and what to do; None where all is well.
        details: size, dtypes and number of weights.
    """

    part: str
    path: Path | None
    problem: str | None
    details: str = ""

    def __str__(self) -> str:
        if self.problem is not None:
            return f"BAD  {self.part}: {self.problem}"
        return f"ok   {self.part}: {self.path} ({self.details})"


@dataclass
class _Seen:
    """What is known so far.

    Attributes:
        places: where the parts lie that were found.
        long_clip_width: of LongCLIP's features; None until it was looked at.
    """

    places: dict[str, Path]
    long_clip_width: int | None = None


def verify(args: ModelArguments) -> Iterator[Verdict]:
    """Looks at the parts that the flags name, one after the other; a bad one hides no other."""
    seen = _Seen({})
    for part, find in _finders(args).items():
        try:
            seen.places[part] = find()
        except UserError as error:
            yield Verdict(part, None, str(error))
    for part, path in seen.places.items():
        try:
            yield Verdict(part, path, None, _CHECKS[part](path, seen))
        except UserError as error:
            yield Verdict(part, path, str(error))


def _finders(args: ModelArguments) -> dict[str, Callable[[], Path]]:
    """How each part is found."""

    def both(name: str) -> Path:
        plain = ModelArguments(**(vars(args) | {"compensation": False}))
        return locate_parts(plain)[name]

    finders = {name: lambda name=name: both(name) for name in ("model", "vision_tower")}
    if args.compensation:
        for name in ("gpt2", "caption_model", "longclip", "selector"):
            finders[name] = lambda name=name: locate_part(args, name)
    return finders


def _shapes(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint without their contents."""
    return {key: tensor.to("meta") for key, tensor in read_checkpoint(path).items()}


def _details(path: Path, tensors: dict[str, Tensor]) -> str:
    size = sum(file.stat().st_size for file in weight_files(path))
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()})
    return f"{size / 1e6:,.1f} MB, {len(tensors)} tensors, {', '.join(dtypes)}"


def _check_model(path: Path, seen: _Seen) -> str:
    config = read_llava_config(read_json(path / "config.json"), str(path))
    tensors = _shapes(path)
    parts = split_llava(tensors, str(path))
    llm = empty_llm(config.llm, str(path))
    fill_llm(llm, parts["llm"], str(path), _META.dtype, _META.device_of)
    width = parts["projector"].get("0.weight")
    width = 1024 if width is None else width.shape[-1]
    build_projector(config, width, parts["projector"], str(path), _META)
    check_vocabulary(LlamaTokenizer(path), config.llm.vocab_size, path)
    return _details(path, tensors)


def _check_vision_tower(path: Path, seen: _Seen) -> str:
    tensors = _shapes(path)
    clip = build_clip(read_json(path / "config.json"), tensors, str(path), _META)
    check_vocabulary(ClipTokenizer(path), clip.config.text_config.vocab_size, path)
    load_processor(path, clip.config.vision_config.image_size)
    return _details(path, tensors)


def _check_gpt2(path: Path, seen: _Seen) -> str:
    rows = read_json(path / "config.json").get("vocab_size", 50257)
    tokenizer = read_bpe(GPT2Tokenizer, path)
    check_vocabulary(tokenizer, rows, path)
    return f"config and {len(tokenizer)} tokens"


def _check_caption_model(path: Path, seen: _Seen) -> str:
    if not {"gpt2", "vision_tower"} <= seen.places.keys():
        raise UserError(
            "it cannot be looked at without GPT-2's config and CLIP's: mend those first"
        )
    tensors = _shapes(path)
    config = read_json(seen.places["gpt2"] / "config.json")
    width = read_json(seen.places["vision_tower"] / "config.json").get("projection_dim", 512)
    build_caption_model(config, width, tensors, str(path), _META)
    return _details(path, tensors)


def _check_longclip(path: Path, seen: _Seen) -> str:
    tensors = _shapes(path)
    seen.long_clip_width = build_long_clip(tensors, str(path), _META).text_projection.shape[1]
    return _details(path, tensors)


def _check_selector(path: Path, seen: _Seen) -> str:
    if seen.long_clip_width is None:
        raise UserError("it cannot be looked at without a whole LongCLIP: mend that first")
    tensors = _shapes(path)
    build_selector(seen.long_clip_width, tensors, str(path), _META)
    return _details(path, tensors)


_CHECKS: dict[str, Callable[[Path, _Seen], str]] = {
    "model": _check_model,
    "vision_tower": _check_vision_tower,
    "gpt2": _check_gpt2,
    "caption_model": _check_caption_model,
    "longclip": _check_longclip,
    "selector": _check_selector,
}

"""Verifies that checkpoints are whole and of one model, without keeping them in memory.

Each part goes through the very functions that load it, to torch's meta device: what would not load
is found here too, and each weight is read once and looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from llava.arguments import ModelArguments
from llava.checkpoints.ways import way_to_fetch, way_to_fetch_model
from llava.compensations import NOTHING
from llava.errors import UserError
from llava.model.backbones.llava_next import load_tile_processor
from llava.model.backbones.registry import load_backbone
from llava.model.compensation.builder import (
    build_caption_model,
    build_long_clip,
    build_selector,
    read_gpt2,
)
from llava.model.compensation.oracle import read_oracle
from llava.model.compensation.relation_builder import load_relation_model
from llava.model.compensation.scene_graph import check_relation_model
from llava.model.compensation.triplets import graph_settings, names_of
from llava.model.language_model.builder import load_llama_tokenizer, load_llm
from llava.model.loading.configs import CheckpointConfig, clip_config, read_config
from llava.model.loading.families import read_model_config
from llava.model.loading.llava_config import LlavaConfig, Tensors, split_llava
from llava.model.loading.locate import locate
from llava.model.loading.next_config import NextConfig, take_newline
from llava.model.loading.parts import check_clip, locate_part, locate_parts
from llava.model.loading.placement import Placement, placement
from llava.model.loading.weights import read_checkpoint, weight_files
from llava.model.multimodal_encoder.builder import load_tower
from llava.model.multimodal_encoder.side_tower import load_side_tower
from llava.model.multimodal_projector.builder import build_projector
from llava.model.products.forms import choose_forms


@dataclass(frozen=True)
class Verdict:
    """The findings about one part.

    Attributes:
        part: its name, or those of several with one problem.
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
    """The parts that have been read so far.

    Attributes:
        args: which model.
        place: the meta device, with the dtype that loading would take.
        places: where the parts lie that were found.
        llava: the tensors of a sound LLaVA checkpoint by part; None until it was looked at.
        long_clip_width: of LongCLIP's features; None until it was looked at.
    """

    args: ModelArguments
    place: Placement
    places: dict[str, Path] = field(default_factory=dict)
    llava: Mapping[str, Tensors] | None = None
    long_clip_width: int | None = None

    def config(self) -> CheckpointConfig:
        """Returns what config.json of the checkpoint says."""
        return _config_of(self.args)

    def llava_config(self) -> LlavaConfig:
        """Returns the same of a LLaVA checkpoint."""
        return llava_config_of(self.places["model"])

    @property
    def clip(self) -> Path | None:
        """The folder of CLIP, the model's own or beside it; None where there is none."""
        return self.places.get("vision_tower") or self.places.get("side_tower")

    def clip_width(self) -> int:
        """Returns the width of the space that CLIP's images and texts share."""
        folder, config = self.clip, self.config()
        if folder is None and not config.has_clip:  # captions of the model's own tokens
            return config.llm.hidden_size
        assert folder is not None  # the checks of parts that read it look first
        return clip_config(read_config(folder), str(folder)).projection_dim


def verify(args: ModelArguments) -> Iterator[Verdict]:
    """Verifies the parts that the flags name, one after the other.

    A bad one hides no other, except the model's folder: where that is missing, no other is sought.

    Raises:
        UserError: there is no such device, dtype, form of products or setting of the scene graph,
            or a flag has no effect.
    """
    place = placement(args)
    args.check_compensation()
    graph_settings(args.compensation_options)
    choose_forms(args.cpu_products, place.device, place.dtype, args.compile)
    args = replace(args, device_map=None, compile=False, load_4bit=False, load_8bit=False)
    try:
        args = replace(args, model_path=str(locate(args.model_path)))
    except UserError as error:
        yield Verdict("model", None, f"{error}; {way_to_fetch_model(args)}")
        return
    seen = _Seen(args, Placement(torch.device("meta"), place.dtype))
    missing: dict[str, list[str]] = {}  # what is wrong -> with which parts
    for part, find in _finders(args).items():
        try:
            seen.places[part] = find()
        except UserError as error:
            missing.setdefault(f"{error}{way_to_fetch(part, args, error)}", []).append(part)
    for problem, parts in missing.items():
        yield Verdict(", ".join(parts), None, problem)
    for part, path in seen.places.items():
        try:
            yield Verdict(part, path, None, _CHECKS[part](path, seen))
        except UserError as error:
            yield Verdict(part, path, str(error))


def llava_config_of(folder: Path) -> LlavaConfig:
    """Returns the settings in the config.json of a LLaVA checkpoint.

    Raises:
        UserError: it is damaged, or another model's.
    """
    config = read_model_config(read_config(folder), str(folder))
    if not isinstance(config, LlavaConfig):
        raise UserError(f"{folder} is {config.family}: name a checkpoint of LLaVA for this command")
    return config


def _finders(args: ModelArguments) -> dict[str, Callable[[], Path]]:
    """Returns how each part is found."""

    def model() -> Path:
        check_clip(replace(args, compensation=NOTHING), _config_of(args))
        return Path(args.model_path)

    def of_compensation(name: str) -> Path:
        if clip is None:
            check_clip(args, _config_of(args))
        return locate_part(args, name)

    finders: dict[str, Callable[[], Path]] = {"model": model}
    if (clip := _clip_part(args)) is not None:
        finders[clip] = lambda: locate_parts(replace(args, compensation=NOTHING))[clip]
    return finders | {name: partial(of_compensation, name) for name in args.compensation_parts}


def _config_of(args: ModelArguments) -> CheckpointConfig:
    """Returns the settings in the model's config.json, whatever its family."""
    return read_model_config(read_config(Path(args.model_path)), args.model_path)


def _clip_part(args: ModelArguments) -> str | None:
    """Returns the flag of the CLIP that a model reads; None if it reads none."""
    try:
        has_clip = _config_of(args).has_clip
    except UserError:  # reported with the model itself
        has_clip = True
    if has_clip:
        return "vision_tower"
    return None if args.side_tower is None else "side_tower"


def _details(path: Path, tensors: Tensors) -> str:
    size = sum(file.stat().st_size for file in weight_files(path))
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()})
    return f"{size / 1e6:,.1f} MB, {len(tensors)} tensors, {', '.join(dtypes)}"


def _check_model(path: Path, seen: _Seen) -> str:
    tensors = read_checkpoint(path)
    if not seen.config().has_clip:
        load_backbone(seen.args, {"model": path}, seen.config(), seen.place)
        return _details(path, tensors)
    config = seen.llava_config()
    llava = split_llava(tensors, str(path))
    load_llama_tokenizer(path, config)
    first = llava["projector"].get("0.weight", torch.empty(0))
    build_projector(config, first.shape[-1], llava["projector"], str(path), seen.place)
    if isinstance(config, NextConfig):
        take_newline(llava["llm"], config, str(path), seen.place)
    load_llm(seen.args, config, llava["llm"], str(path), seen.place)
    seen.llava = llava
    return _details(path, tensors)


def _check_vision_tower(path: Path, seen: _Seen) -> str:
    config, llava = seen.llava_config(), seen.llava or {}
    vision = load_tower(seen.args, config, path, llava.get("tower", {}), seen.place)
    width = vision.tower.clip.config.vision_config.hidden_size
    if seen.llava is not None:
        build_projector(config, width, llava["projector"], str(seen.places["model"]), seen.place)
    if isinstance(config, NextConfig):
        load_tile_processor(seen.places, config, vision.tower.image_size)
    return _details(path, read_checkpoint(path))


def _check_side_tower(path: Path, seen: _Seen) -> str:
    load_side_tower(seen.args, path, seen.place)
    return _details(path, read_checkpoint(path))


def _check_gpt2(path: Path, seen: _Seen) -> str:
    _, tokenizer = read_gpt2(path)
    return f"config and {len(tokenizer)} tokens"


def _check_caption_model(path: Path, seen: _Seen) -> str:
    has_own = "model" in seen.places and not seen.config().has_clip
    has_width = seen.clip is not None or has_own
    if "gpt2" not in seen.places or not has_width:
        raise UserError(
            "it cannot be looked at without GPT-2's config and CLIP's: mend those first"
        )
    tensors, width = read_checkpoint(path), seen.clip_width()
    gpt2 = read_config(seen.places["gpt2"])
    build_caption_model(gpt2, width, tensors, str(path), seen.place)
    return _details(path, tensors)


def _check_longclip(path: Path, seen: _Seen) -> str:
    tensors = read_checkpoint(path)
    seen.long_clip_width = build_long_clip(tensors, str(path), seen.place).text_projection.shape[1]
    return _details(path, tensors)


def _check_selector(path: Path, seen: _Seen) -> str:
    if seen.long_clip_width is None:
        raise UserError("it cannot be looked at without a whole LongCLIP: mend that first")
    tensors = read_checkpoint(path)
    build_selector(seen.long_clip_width, tensors, str(path), seen.place)
    return _details(path, tensors)


def _check_scene_graph(path: Path, seen: _Seen) -> str:
    if seen.clip is None:
        raise UserError("it cannot be looked at without CLIP's config: mend that first")
    settings = graph_settings(seen.args.compensation_options)
    model = load_relation_model(path, seen.place.device, settings.rounding)
    check_relation_model(model, seen.clip_width(), names_of(path), str(path))
    return _details(path, read_checkpoint(path))


_CHECKS: dict[str, Callable[[Path, _Seen], str]] = {
    "model": _check_model,
    "vision_tower": _check_vision_tower,
    "side_tower": _check_side_tower,
    "gpt2": _check_gpt2,
    "caption_model": _check_caption_model,
    "longclip": _check_longclip,
    "selector": _check_selector,
    "scene_graph": _check_scene_graph,
    "oracle": lambda path, seen: f"{len(read_oracle(path))} keys",
}

"""Finds each part of ACCM by the flags of a command."""

from __future__ import annotations

from pathlib import Path

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.files import is_there
from llava.model.loading.configs import CheckpointConfig, read_config
from llava.model.loading.families import read_model_config
from llava.model.loading.locate import find_beside, locate

# The default name of each part, and its repository on the hub.
_USUAL_NAMES = {
    "vision_tower": ("clip-vit-large-patch14-336", "openai/clip-vit-large-patch14-336"),
    "gpt2": ("gpt2", "openai-community/gpt2"),
    "caption_model": ("accm/coco_prefix-009.pt", "fumingyu064/ACCM"),
    "selector": ("accm/llava-RL_prefix-019.pt", "fumingyu064/ACCM"),
    "scene_graph": ("accm/checkpoint0104.pth", "fumingyu064/ACCM"),
    "longclip": ("longclip-L.pt", "BeichenZhang/LongCLIP-L"),
}


def locate_parts(args: ModelArguments) -> dict[str, Path]:
    """Returns the paths of the parts that the flags ask for: "model", and by the flags' names.

    Raises:
        UserError: a part is not found, or the model is of no family that is supported.
    """
    return read_model(args)[0]


def read_model(args: ModelArguments) -> tuple[dict[str, Path], CheckpointConfig]:
    """Returns the paths of a model's parts, and its config.json parsed; see locate_parts."""
    if args.model_path is None:
        raise UserError("say which model: --model-path FOLDER, or a name on the Hugging Face hub")
    model = locate(args.model_path)
    config = read_model_config(read_config(model), str(model))
    check_clip(args, config)
    parts = {"model": model}
    if config.has_clip:
        parts["vision_tower"] = _find(args, model, "vision_tower", config.vision_tower)
    elif args.side_tower is not None:
        parts["side_tower"] = _find(args, model, "side_tower")
    parts |= {part: _find(args, model, part) for part in args.compensation_parts}
    if "scene_graph" in parts and is_there(names_file(parts["scene_graph"])):
        parts["scene_graph_names"] = names_file(parts["scene_graph"])  # decide as the weights do
    return parts, config


def check_clip(args: ModelArguments, config: CheckpointConfig) -> None:
    """Refuses flags of CLIP without effect, and a compensation that misses CLIP.

    Raises:
        UserError: names the flag.
    """
    family, side = config.family, args.side_tower
    if config.has_clip:
        if side is not None:
            raise UserError(
                f"--side-tower is for models whose own tower is not CLIP, and {args.model_path} is "
                f"{family}: leave it out"
            )
        return
    if args.vision_tower is not None:
        raise UserError(
            f"--vision-tower is CLIP of a LLaVA, and {family} has a tower of its own: leave it "
            "out, or name CLIP beside that tower with --side-tower"
        )
    if side is not None:
        return
    for name in ("text_selection", "patch_post_layernorm"):
        if getattr(args, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')} is about CLIP, which {family} does not have: leave it "
                "out, or name CLIP beside its tower with --side-tower"
            )
    reads_clip = {"scene_graph"} if args.caption_model else {"scene_graph", "caption_model"}
    if reads_clip & set(args.compensation_parts):
        raise UserError(
            f"--compensation {args.compensation_name} reads CLIP's patches, and {family} has "
            "another tower: name CLIP beside it with --side-tower FOLDER, a --caption-model that "
            "was trained on this tower, or leave captions out with --compensation none"
        )


def locate_part(args: ModelArguments, part: str, weights: bool = False) -> Path:
    """Returns the path of a part that belongs to compensation.

    Args:
        args: the model's flags.
        part: "gpt2", "caption_model", "longclip" or "selector".
        weights: whether GPT-2's own weights are wanted, to train from.

    Raises:
        UserError: it is not found.
    """
    return _find(args, locate(args.model_path), part, weights=weights)


def names_file(weights: Path) -> Path:
    """Returns the file that says the names of a relation model, beside its weights."""
    return weights.with_suffix(".names.json")


def _find(
    args: ModelArguments,
    model: Path,
    part: str,
    configured: str | None = None,
    weights: bool = False,
) -> Path:
    """Returns a part's path: as given, as the model's config names it, or by its usual name."""
    given = getattr(args, part)
    if part == "oracle":
        if given is None or not is_there(Path(given)):
            missing = "no file of texts is named" if given is None else f"there is no file {given}"
            raise UserError(
                f"--compensation {args.compensation_name} reads texts, and {missing}: name one "
                "with --oracle FILE"
            )
        return Path(given)
    if given is not None:
        return locate(given, weights=weights or part != "gpt2")
    usual, hub_name = _USUAL_NAMES[part]
    root = Path(args.checkpoints_root)
    for name in (configured, configured and Path(configured).name, usual):
        if name and (found := find_beside(name, model, root)):
            return found
    if configured is not None:
        return locate(configured)
    without = "" if part == "vision_tower" else ", or do without captions (--no-compensation)"
    raise UserError(
        f"there is no {usual} in {model}, beside it or under {root}: download it there from "
        f"{hub_name} on the Hugging Face hub, or say where it is with "
        f"--{part.replace('_', '-')}{without}"
    )

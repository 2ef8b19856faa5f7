"""What the caption stage reads of images: CLIP's outputs, or the tokens of another tower."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from llava.errors import UserError
from llava.model.builder import load_vision
from llava.train.arguments import model_arguments
from llava.train.features import ImageFeatures, encode_questions, image_features, vision_settings
from llava.train.native import PRUNER, NativeFeatures, NativePruner, load_native
from llava.train.pruning import Pruner, check_budgets
from llava.train.stage import Stage
from llava.train.stages.arguments import CaptionArguments

Seen = tuple[Union[ImageFeatures, NativeFeatures], Union[Pruner, NativePruner], Path, dict]


def see_by_clip(
    args: CaptionArguments, stage: Stage, images: list[Path], questions: list[str]
) -> Seen:
    """Returns CLIP's outputs for images, ACCM's pruner, CLIP's folder and its settings."""
    seen = load_vision(model_arguments(args))
    check_budgets(args.budgets, seen.num_tokens)
    folder = Path(args.features or Path(args.output_dir) / "features")
    features = stage.team.first_then_all(lambda: image_features(folder, images, seen))
    check_budgets(args.budgets, features.num_tokens)
    texts = encode_questions(seen.tower, seen.tokenizer, questions)
    pruner = Pruner(texts, seen.text_selection == "nearest")
    chosen = vision_settings(seen) | {"text_selection": seen.text_selection}
    return features, pruner, seen.folder, chosen


def see_natively(
    args: CaptionArguments, stage: Stage, images: list[Path], questions: list[str]
) -> Seen:
    """Returns the same of a tower that is not CLIP."""
    if args.features:
        raise UserError("--features is for CLIP's outputs; this model's are kept nowhere: leave it")
    backbone, folder = load_native(model_arguments(args))
    check_budgets(args.budgets, backbone.count_tokens())
    return NativeFeatures(images, backbone), NativePruner(), folder, {"pruner": PRUNER}

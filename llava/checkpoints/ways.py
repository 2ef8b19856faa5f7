"""The commands that fetch what verify does not find."""

from __future__ import annotations

import shlex
from pathlib import Path

from llava.arguments import ModelArguments
from llava.checkpoints.download import ALL, PUBLISHED
from llava.command import called
from llava.errors import UserError
from llava.model.loading.locate import is_hub_name

# Part -> what is downloaded for it.
_PUBLISHED_AS = {
    "vision_tower": "clip",
    "gpt2": "gpt2",
    "caption_model": "accm",
    "longclip": "longclip",
    "selector": "accm",
    "scene_graph": "scene-graph",
}


def way_to_fetch_model(args: ModelArguments) -> str:
    """Says by which command a model that is not there is fetched, with the parts that it needs."""
    name = Path(args.model_path).name
    if name not in PUBLISHED:
        return f"what is published is fetched by: {_download('all')}"
    names = dict.fromkeys([name, *(ALL[1:] if args.has_captions else ["clip"])])
    words = "all" if tuple(names) == ALL else " ".join(names)
    is_path = not is_hub_name(args.model_path)
    root = str(Path(args.model_path).parent) if is_path else args.checkpoints_root
    return f"to have it in {Path(root) / PUBLISHED[name].target}: {_download(words, root)}"


def way_to_fetch(part: str, args: ModelArguments, error: UserError) -> str:
    """Says by which command a part is fetched that was looked for under its usual name."""
    if part not in _PUBLISHED_AS or getattr(args, part) is not None:
        return ""
    if "--side-tower" in str(error):  # what is missing is another flag
        return ""
    # The CLIP that a model has is named in its config.json, and need not be the published one.
    if part == "vision_tower" and PUBLISHED["clip"].target not in str(error):
        return ""
    return f"; it is fetched by: {_download(_PUBLISHED_AS[part], args.checkpoints_root)}"


def _download(names: str, root: str | None = None) -> str:
    is_usual = root is None or root == ModelArguments().checkpoints_root
    where = "" if root is None or is_usual else f" --checkpoints-root {shlex.quote(root)}"
    return f"{called('llava.checkpoints download')} {names}{where}"

"""The compensations by name. To add one, write a file beside this one, and a line here.

Names, and the flags of the files that each reads, stand in llava.arguments, which needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llava.arguments import CAPTIONS, NOTHING
from llava.model.compensation.builder import load_compensator
from llava.model.loading.placement import Placement

LOADERS: dict[str, Callable[..., Any]] = {
    CAPTIONS: load_compensator,  # arXiv 2508.01236
    NOTHING: lambda paths, embed_dim, place, silence: None,
}


def load_compensation(
    name: str, paths: Mapping[str, Path], embed_dim: int, place: Placement, silence: bool | None
) -> Any:
    """Returns a compensation, a CompensationModule; None where nothing is given back.

    Args:
        name: of llava.arguments.COMPENSATIONS.
        paths: of its parts, by their flags; see locate_parts.
        embed_dim: P, the projection width of CLIP.
        place: device and dtype of its parts.
        silence: whether a selector may choose nothing; see build_selector.

    Raises:
        UserError: a file is missing, damaged or of another model, or cannot choose silence.
    """
    return LOADERS[name](paths, embed_dim, place, silence)

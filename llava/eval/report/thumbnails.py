"""Small pictures of a question's image, in which the patches kept by a run stay bright."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SIDE = 240  # pixels; ten for each patch of the 24 in a row
_QUALITY = 80
_DEFAULT_PATCHES = 576


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data: URI, with its description."""

    caption: str
    uri: str


def thumbnails(
    image: Path | bytes, runs: Sequence[tuple[str, Sequence[int] | None, int | None]]
) -> tuple[Thumbnail, ...]:
    """Returns a picture for each set of kept patches; the plain image if nothing was dropped.

    Args:
        image: a file, or an encoded picture.
        runs: name, kept patches (None if unknown) and number of patches of each run.

    Raises:
        UserError: the image cannot be read.
    """
    # Imported here because it takes seconds, and a report without images does not need it.
    from llava.eval.figure import data_uri, dim_patches
    from llava.mm_utils import CLIP_BACKGROUND, expand2square, load_image

    picture = expand2square(load_image(image), CLIP_BACKGROUND, SIDE)
    groups: dict[tuple[tuple[int, ...], int], list[str]] = {}
    for name, kept, num_patches in runs:
        num_patches = num_patches or _DEFAULT_PATCHES
        if kept and _is_pruned(kept, num_patches):
            groups.setdefault((tuple(sorted(kept)), num_patches), []).append(name)
    named = {key: "kept by " + " and ".join(names) for key, names in groups.items()}
    named = named or {(tuple(range(_DEFAULT_PATCHES)), _DEFAULT_PATCHES): "the image"}
    return tuple(
        Thumbnail(caption, data_uri(dim_patches(picture, kept, total, SIDE), _QUALITY))
        for (kept, total), caption in named.items()
    )


def _is_pruned(kept: Sequence[int], num_patches: int) -> bool:
    """Returns whether some patches, and not all, of a square grid were kept."""
    square = math.isqrt(num_patches) ** 2 == num_patches
    return square and 0 <= min(kept) and max(kept) < num_patches and len(set(kept)) < num_patches

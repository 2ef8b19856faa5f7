"""Finds the patches of an image that lie on an object."""

from __future__ import annotations

import math
from collections.abc import Iterable

from llava.mini.measuring.passes import Kept
from llava.mini.scene import IMAGE_SIZE, Thing

KEPT, PICKED, ALL = "all kept", "picked by the question, before the cut", "all patches"
REASONS = ("question", "attention", "question and attention", "uniform", "random")
GROUPS = (*REASONS, KEPT, PICKED, ALL)


def patches_on(things: Iterable[Thing], num_patches: int) -> set[int]:
    """Returns the patches whose centre lies within the radius of an object."""
    side = math.isqrt(num_patches)
    size = IMAGE_SIZE / side
    centres = {
        patch: ((patch % side + 0.5) * size, (patch // side + 0.5) * size)
        for patch in range(num_patches)
    }
    return {
        patch
        for thing in things
        for patch, (x, y) in centres.items()
        if math.hypot(x - thing.x, y - thing.y) <= thing.radius
    }


def count_kept(kept: Kept, on: set[int], num_patches: int) -> dict[str, tuple[int, int]]:
    """Counts by GROUPS the patches, and those of them that lie on given patches.

    Args:
        kept: the patches that a rule keeps.
        on: the given patches.
        num_patches: N of the image.
    """
    groups = {g: [p for p, reason in kept.reasons.items() if reason == g] for g in REASONS}
    groups |= {KEPT: list(kept.reasons), PICKED: kept.picked, ALL: list(range(num_patches))}
    return {group: (len(found), len(on.intersection(found))) for group, found in groups.items()}

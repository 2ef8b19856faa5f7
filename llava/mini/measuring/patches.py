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
    centres = [centre for side in _grid_sides(num_patches) for centre in _centres(side)]
    return {
        patch
        for thing in things
        for patch, (x, y) in enumerate(centres)
        if math.hypot(x - thing.x, y - thing.y) <= thing.radius
    }


def _grid_sides(num_patches: int) -> list[int]:
    """Returns the sides of the grids that show a scene, each the whole of it.

    A model with tiles reads the square scenes in a base view, and in four tiles, which form one
    grid of twice its side.
    """
    side = math.isqrt(num_patches)
    if side**2 == num_patches:
        return [side]
    base = math.isqrt(num_patches // 5)
    assert 5 * base**2 == num_patches, f"{num_patches} patches are no base view with four tiles"
    return [base, 2 * base]


def _centres(side: int) -> list[tuple[float, float]]:
    """Returns where the patches of a square grid have their centres, in pixels of a scene."""
    size = IMAGE_SIZE / side
    return [((p % side + 0.5) * size, (p // side + 0.5) * size) for p in range(side**2)]


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

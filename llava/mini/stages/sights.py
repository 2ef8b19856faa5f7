"""What samples of train_llava show, and the checks of the flags for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llava.errors import UserError
from llava.mini.stages.arguments import SIGHTS, LlavaArguments

WITHOUT_IMAGE = ("described", "nothing")


def check_shares(shares: Sequence[float]) -> None:
    """Refuses shares that cannot be drawn from.

    Raises:
        UserError: says what is wrong.
    """
    if len(shares) != len(SIGHTS) or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise UserError(
            f"--shares is {' '.join(map(str, shares))}: give {len(SIGHTS)} numbers for "
            f"{', '.join(SIGHTS)}: none below 0, and not all of them 0"
        )


def shows_images(shares: Sequence[float]) -> bool:
    """Returns whether any of SIGHTS with a share above 0 has visual tokens."""
    return any(share and sight not in WITHOUT_IMAGE for share, sight in zip(shares, SIGHTS))


def check_pruned(args: LlavaArguments) -> None:
    """Refuses invalid numbers of tokens, and shares of false captions where none are shown.

    Raises:
        UserError: says which.
    """
    if not args.one_in or min(args.one_in) < 1:
        numbers = " ".join(map(str, args.one_in))
        raise UserError(f"--one-in is {numbers or 'empty'}: say numbers from 1 on")
    if not 0 <= args.false_phrases <= 1:
        raise UserError(f"--false-phrases is {args.false_phrases}: say a share from 0 to 1")
    if args.false_phrases and not args.shares[SIGHTS.index("compensated")]:
        raise UserError("--false-phrases would do nothing: these --shares show no captions")


def check_sight(args: LlavaArguments) -> None:
    """Refuses flags about pictures where none are shown.

    Raises:
        UserError: names them.
    """
    about = "vision_tower features dtype patch_post_layernorm text_selection checkpoints_root"
    unseen = [] if shows_images(args.shares) else [*about.split(), "focus"]
    if not args.shares[SIGHTS.index("full")]:
        unseen.append("focus")
    defaults = LlavaArguments()
    given = [name for name in unseen if getattr(args, name) != getattr(defaults, name)]
    if given:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in dict.fromkeys(given))
        raise UserError(f"{flags} would do nothing with these --shares: leave them out")

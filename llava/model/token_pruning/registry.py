"""The pruners by name. To add one, write a file beside this one and add a line here."""

from __future__ import annotations

from llava.errors import UserError, did_you_mean, quoted
from llava.model.token_pruning.accm import AccmOptions, select_accm
from llava.model.token_pruning.controls import (
    all_tokens,
    each,
    no_tokens,
    pooled_tokens,
    random_tokens,
    uniform_tokens,
)
from llava.model.token_pruning.pruner import Needs, Pruner

ACCM = Pruner(
    "accm",
    select_accm,
    Needs.PATCH_EMBEDS | Needs.CLS_ATTENTION | Needs.QUESTION,
    AccmOptions,
    "arXiv 2508.01236",
)
ALL = Pruner("none", each(all_tokens))  # every token: plain LLaVA-1.5
NO_IMAGE = Pruner("zero", each(no_tokens))  # no token at all: the floor

PRUNERS = {
    pruner.name: pruner
    for pruner in (
        ACCM,
        ALL,
        NO_IMAGE,
        Pruner("random", each(random_tokens)),
        Pruner("uniform", each(uniform_tokens)),
        Pruner("pool", each(pooled_tokens)),
    )
}


def find_pruner(name: object) -> Pruner:
    """Returns a pruner by its name.

    Raises:
        UserError: there is none of that name; lists them.
    """
    if not isinstance(name, str) or name not in PRUNERS:
        near = did_you_mean(name, PRUNERS) if isinstance(name, str) else ""
        raise UserError(f"there is no pruner {quoted(name)}{near}: use {', '.join(PRUNERS)}")
    return PRUNERS[name]

"""The pruners by name. To add one, write a file beside this one and add a line here."""

from __future__ import annotations

from llava.errors import UserError, did_you_mean, quoted
from llava.method import ALL_TOKENS, NO_TOKENS, Method
from llava.model.multimodal_encoder import clip_encoder
from llava.model.token_pruning.accm import AccmOptions, select_accm
from llava.model.token_pruning.budget import Budget, resolve_budget
from llava.model.token_pruning.controls import (
    all_tokens,
    each,
    no_tokens,
    pooled_tokens,
    random_tokens,
    uniform_tokens,
)
from llava.model.token_pruning.pruner import Needs, Pruner, Pruning

ACCM = Pruner(
    "accm",
    select_accm,
    Needs.PATCH_EMBEDS | Needs.CLS_ATTENTION | Needs.QUESTION,
    AccmOptions,
    "arXiv 2508.01236",
)
ALL = Pruner(ALL_TOKENS, each(all_tokens))  # every token: plain LLaVA-1.5

PRUNERS = {
    pruner.name: pruner
    for pruner in (
        ACCM,
        ALL,
        Pruner(NO_TOKENS, each(no_tokens)),  # the floor
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


def budget_of(method: Method, num_patches: int) -> Budget:
    """Returns K and T of a method for an image of num_patches patches.

    Raises:
        UserError: there is no such pruner, or the budget is invalid.
    """
    wanted = method.visual_token_num
    if wanted is None:
        is_all = find_pruner(method.pruner) is ALL
        wanted = num_patches if is_all else clip_encoder.VISUAL_TOKEN_NUM
    return resolve_budget(wanted, method.text_token_num, num_patches)


def pruning_of(method: Method, num_patches: int, nearest: bool) -> Pruning:
    """Returns how an image of num_patches patches is to be pruned.

    Args:
        method: a valid one.
        num_patches: N.
        nearest: whether the question picks the patches nearest to it; see select_tokens.
    """
    pruner = find_pruner(method.pruner)
    known = {"text_token_num": method.text_token_num, "nearest": nearest}
    options = pruner.options(**{name: known[name] for name in pruner.option_names})
    return Pruning(pruner, budget_of(method, num_patches).visual_token_num, options)

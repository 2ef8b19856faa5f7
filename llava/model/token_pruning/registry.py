"""The pruners by name. To add one, write a file in this folder and add a line here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from llava.budgets import EVERY, AskedBudget
from llava.errors import UserError, did_you_mean, quoted
from llava.method import (
    ALL_TOKENS,
    GLOBAL,
    NO_TOKENS,
    PROPORTIONAL,
    VIEW_SPLITS,
    Method,
    given_options,
)
from llava.model.multimodal_encoder import clip_encoder
from llava.model.multimodal_encoder.visual_tokens import View
from llava.model.token_pruning.accm import AccmOptions, select_accm
from llava.model.token_pruning.adapter import as_pruner, is_before_llm
from llava.model.token_pruning.budget import Budget, resolve_budget
from llava.model.token_pruning.controls import (
    all_tokens,
    each,
    no_tokens,
    pooled_tokens,
    random_tokens,
    uniform_tokens,
)
from llava.model.token_pruning.inside_llm import INSIDE_LLM
from llava.model.token_pruning.layer_pruner import PUBLISHED_LAYERS, plan_layers
from llava.model.token_pruning.options import settings_of, typed
from llava.model.token_pruning.pruner import Needs, Pruner, Pruning
from llava.model.token_pruning.published import ALIASES, PUBLISHED
from llava.model.token_pruning.views import split_budget

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
        Pruner("uniform", each(uniform_tokens), by_view=True),
        Pruner("pool", each(pooled_tokens), by_view=True),
        *(as_pruner(published) for published in PUBLISHED.values() if is_before_llm(published)),
        *INSIDE_LLM,
    )
}


def find_pruner(name: object) -> Pruner:
    """Returns a pruner by its name.

    Raises:
        UserError: there is none of that name; lists them.
    """
    name = ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or name not in PRUNERS:
        near = did_you_mean(name, PRUNERS) if isinstance(name, str) else ""
        raise UserError(f"there is no pruner {quoted(name)}{near}: use {', '.join(PRUNERS)}")
    return PRUNERS[name]


def asked_budget(method: Method, most: int) -> AskedBudget:
    """Returns the budget that a method asks for: a number or a share; all tokens are ``most``.

    Args:
        method: the settings of the question.
        most: the largest number of tokens of any image.

    Raises:
        UserError: there is no such pruner.
    """
    wanted: AskedBudget | None = method.visual_token_num
    if wanted is None:
        is_all = find_pruner(method.pruner) is ALL
        wanted = EVERY if is_all else clip_encoder.VISUAL_TOKEN_NUM
    return most if wanted == EVERY else wanted


def budget_of(method: Method, num_patches: int, most: int | None = None) -> Budget:
    """Returns K and T of a method for an image of num_patches patches.

    Args:
        method: the settings of the question.
        num_patches: N of the image.
        most: the largest N of any image of the model; None if all images have the same N.

    Raises:
        UserError: there is no such pruner, or the budget is invalid.
    """
    wanted = asked_budget(method, num_patches if most is None else most)
    return resolve_budget(wanted, method.text_token_num, num_patches, most)


def resolved_num(method: Method, num_patches: int, most: int) -> int | None:
    """Returns K of an image where it is not the number that was asked for, to be recorded.

    It is None where it is that number, and where no token is seen.
    """
    if method.sees_nothing:
        return None
    kept = budget_of(method, num_patches, most).visual_token_num
    return None if kept == asked_budget(method, most) else kept


def fits_views(pruner: Pruner, has_views: bool) -> bool:
    """Returns whether a pruner works on a model of one view of an image, or of several."""
    return pruner.layers is None or not has_views


def check_views(method: Method, has_views: bool) -> None:
    """Refuses a method that does not fit a model of one view of an image, or of several.

    Raises:
        UserError: the split of the budget is unknown or without effect, or the pruner works inside
            the LLM, where the tokens between the views would be in its way.
    """
    pruner, split = find_pruner(method.pruner), method.view_split
    if not fits_views(pruner, has_views):
        raise UserError(
            f"the pruner {pruner.name} works inside the LLM, and this model reads several views of "
            "an image with newline tokens between them: use a pruner before the LLM"
        )
    if split is None:
        return
    if split not in VIEW_SPLITS:
        known = ", ".join(VIEW_SPLITS)
        near = did_you_mean(split, VIEW_SPLITS) if isinstance(split, str) else ""
        raise UserError(f"view_split is {quoted(split)}{near}; it must be one of {known}")
    idle = None
    if not has_views:
        idle = "on a model that reads an image in one view"
    elif method.sees_nothing or pruner is ALL:
        idle = "where all tokens are kept, or none"
    elif split == GLOBAL and pruner.by_view:
        idle = f"with the pruner {pruner.name}, which prunes each grid by itself"
    elif split != GLOBAL and method.text_token_num is not None:
        idle = "with text_token_num, which is a number of tokens of the whole image"
    if idle is not None:
        raise UserError(f"view_split {split} has no effect {idle}: leave it out")


def pruning_of(
    method: Method,
    num_patches: int,
    nearest: bool,
    num_layers: int = PUBLISHED_LAYERS,
    most: int | None = None,
    views: Sequence[View] = (),
) -> Pruning:
    """Returns the pruner, number of tokens and options for an image of num_patches patches.

    Args:
        method: the settings of the question.
        num_patches: N.
        nearest: whether the question picks the patches nearest to it; see select_tokens.
        num_layers: of the LLM.
        most: see budget_of.
        views: of the image; empty: one square.

    Raises:
        UserError: there is no such pruner or option, or the pruner cannot meet the budget.
    """
    pruner = find_pruner(method.pruner)
    budget = budget_of(method, num_patches, most)
    text_token_num = None if method.text_token_num is None else budget.text_token_num
    known = {"text_token_num": text_token_num, "nearest": nearest}
    own = {name: known[name] for name in pruner.option_names & known.keys()}
    options = replace(_options_of(pruner, method), **own)
    pruning = Pruning(pruner, budget.visual_token_num, options)
    if not 0 < pruning.num_tokens < num_patches:
        return pruning
    if len(views) > 1 and (pruner.by_view or method.view_split not in (None, GLOBAL)):
        split = method.view_split or PROPORTIONAL
        pruning = replace(pruning, parts=split_budget(views, pruning.num_tokens, split))
    _check_budgets(pruning, views, num_patches)
    if pruner.layers is None:
        return pruning
    plan = plan_layers(
        pruner.name, pruner.layers, options, num_layers, num_patches, pruning.num_tokens
    )
    return replace(pruning, num_tokens=plan.first, plan=plan)


def _check_budgets(pruning: Pruning, views: Sequence[View], num_patches: int) -> None:
    """Refuses a budget that a pruner cannot meet, in the whole image or in a view of it."""
    check = pruning.pruner.check
    if check is None:
        return
    side = math.isqrt(num_patches)
    sides = (side, side) if side * side == num_patches else (1, num_patches)
    if len(views) == 1:
        sides = (views[0].rows, views[0].columns)
    grids = [((view.rows, view.columns), count) for view, count in pruning.parts]
    for (rows, columns), count in grids or [(sides, pruning.num_tokens)]:
        if 0 < count < rows * columns:
            check(count, (rows, columns), pruning.options)


def resolved(method: Method) -> Method:
    """Returns a method with the names of the registry, and only options that are not the default.

    Raises:
        UserError: there is no such pruner or option.
    """
    pruner = find_pruner(method.pruner)
    given, usual = asdict(_options_of(pruner, method)), asdict(pruner.options())
    options = {name: value for name, value in given.items() if value != usual[name]}
    return replace(method, pruner=pruner.name, pruner_options=options)


def _options_of(pruner: Pruner, method: Method) -> Any:
    """Returns the options of a pruner that a method gives; ACCM's have flags of their own.

    Raises:
        UserError: the message names the pruner and the option.
    """
    given: Mapping[str, object] = given_options(method.pruner_options)
    if given and pruner is ACCM:
        raise UserError(
            f"the pruner {pruner.name} takes no options: text_token_num and text_selection set "
            "what there is to set"
        )
    try:
        return settings_of(pruner.options, typed(pruner.options, given))
    except UserError as error:
        raise UserError(f"the pruner {pruner.name}: {error}") from error

"""The pruners by name. To add one, write a file in this folder and add a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from llava.budgets import EVERY, AskedBudget
from llava.errors import UserError, did_you_mean, quoted
from llava.method import ALL_TOKENS, NO_TOKENS, Method, given_options
from llava.model.multimodal_encoder import clip_encoder
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


def pruning_of(
    method: Method,
    num_patches: int,
    nearest: bool,
    num_layers: int = PUBLISHED_LAYERS,
    most: int | None = None,
) -> Pruning:
    """Returns the pruner, number of tokens and options for an image of num_patches patches.

    Args:
        method: the settings of the question.
        num_patches: N.
        nearest: whether the question picks the patches nearest to it; see select_tokens.
        num_layers: of the LLM.
        most: see budget_of.

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
    if pruner.check is not None:
        pruner.check(pruning.num_tokens, num_patches, options)
    if pruner.layers is None:
        return pruning
    plan = plan_layers(
        pruner.name, pruner.layers, options, num_layers, num_patches, pruning.num_tokens
    )
    return replace(pruning, num_tokens=plan.first, plan=plan)


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

"""Published pruners by the names of their recorded cases: a line here for each method's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from llava.errors import UserError, did_you_mean, quoted, shown
from llava.model.token_pruning.choice import PublishedPruner
from llava.model.token_pruning.fastervlm import FasterVlmOptions, fastervlm
from llava.model.token_pruning.hiprune import HiPruneOptions, hiprune
from llava.model.token_pruning.holov import HoloVOptions, holov
from llava.model.token_pruning.mustdrop import MustDropOptions, mustdrop
from llava.model.token_pruning.prumerge import PruMergeOptions, prumerge
from llava.model.token_pruning.prumergeplus import prumergeplus
from llava.model.token_pruning.prunesid import PruneSidOptions, prunesid
from llava.model.token_pruning.published_text import BY_TEXT
from llava.model.token_pruning.visionzip import VisionZipOptions, visionzip
from llava.model.token_pruning.vispruner import VisPrunerOptions, vispruner
from llava.model.token_pruning.vscan import VScanOptions, vscan

_BY_TOWER = (
    PublishedPruner(
        "fastervlm",
        fastervlm,
        FasterVlmOptions,
        ("attn_cls",),
        "arXiv 2412.01818v1",
        "Apache-2.0",
    ),
    PublishedPruner(
        "hiprune",
        hiprune,
        HiPruneOptions,
        ("attn_mean_mid", "attn_mean_deep"),
        "arXiv 2508.00553",
        "MIT",
    ),
    PublishedPruner(
        "holov",
        holov,
        HoloVOptions,
        ("attn_cls",),
        "NeurIPS 2025",
        "Apache-2.0",
    ),
    PublishedPruner(
        "mustdrop",
        mustdrop,
        MustDropOptions,
        ("hidden",),
        "arXiv 2411.10803",
        "Apache-2.0 (LightCompress)",
        ("", "adaptive"),
    ),
    PublishedPruner(
        "prumerge",
        prumerge,
        PruMergeOptions,
        ("hidden", "keys", "query_cls"),
        "arXiv 2403.15388",
        "Apache-2.0",
        ("adaptive", "fixed"),
    ),
    PublishedPruner(
        "prumergeplus",
        prumergeplus,
        PruMergeOptions,
        ("hidden", "keys", "query_cls"),
        "arXiv 2403.15388",
        "Apache-2.0",
        ("adaptive", "fixed"),
    ),
    PublishedPruner(
        "prunesid",
        prunesid,
        PruneSidOptions,
        ("attn_cls", "hidden"),
        "arXiv 2603.09480",
        "Apache-2.0 by its README",
        ("", "exactpca"),
    ),
    PublishedPruner(
        "visionzip",
        visionzip,
        VisionZipOptions,
        ("attn_cls", "hidden", "keys"),
        "arXiv 2412.04467",
        "Apache-2.0",
    ),
    PublishedPruner(
        "vispruner",
        vispruner,
        VisPrunerOptions,
        ("attn_cls", "hidden"),
        "arXiv 2412.01818v2",
        "Apache-2.0",
        ("", "r75"),
    ),
    PublishedPruner(
        "vscan",
        vscan,
        VScanOptions,
        ("attn_cls_mid", "attn_cls", "projected"),
        "arXiv 2505.22654",
        "MIT",
    ),
)
PUBLISHED = {pruner.name: pruner for pruner in (*_BY_TOWER, *BY_TEXT)}


def find_published(name: object) -> PublishedPruner:
    """Returns a published pruner by its name.

    Raises:
        UserError: there is none of that name; lists them.
    """
    if not isinstance(name, str) or name not in PUBLISHED:
        near = did_you_mean(name, PUBLISHED) if isinstance(name, str) else ""
        known = ", ".join(PUBLISHED)
        raise UserError(f"there is no published pruner {quoted(name)}{near}: use {known}")
    return PUBLISHED[name]


def settings_of(options: type, given: Mapping[str, object]) -> Any:
    """Returns the settings of a method, with its defaults for those that are not given.

    Args:
        options: the dataclass of its settings.
        given: values by name; a list stands for a tuple.

    Raises:
        UserError: a name is not known, or a value is not of the kind that the setting has.
    """
    kinds = {field.name: field.type for field in fields(options)}
    hints = get_type_hints(options)
    for name, value in given.items():
        if name not in kinds:
            known = f"use {', '.join(kinds)}" if kinds else "there are none"
            near = did_you_mean(name, kinds)
            raise UserError(f"there is no setting {shown(name)}{near}: {known}")
        if not _is_of(value, hints[name]):
            raise UserError(f"setting {name} is {quoted(value)}; it must be of type {kinds[name]}")
    tuples = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return options(**{**given, **tuples})


def _is_of(value: object, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(_is_of(one, get_args(kind)[0]) for one in value)
    if get_args(kind):  # one of several
        return any(_is_of(value, one) for one in get_args(kind))
    return type(value) in ((float, int) if kind is float else (kind,))

"""Published pruners by the names of their recorded cases: a line here for each method's file."""

from __future__ import annotations

from llava.errors import UserError, did_you_mean, quoted
from llava.model.token_pruning.choice import PublishedPruner
from llava.model.token_pruning.fastervlm import FasterVlmOptions, fastervlm
from llava.model.token_pruning.hiprune import HiPruneOptions, hiprune
from llava.model.token_pruning.holov import HoloVOptions, holov
from llava.model.token_pruning.mustdrop import MustDropOptions, mustdrop, window_sides
from llava.model.token_pruning.prumerge import PruMergeOptions, prumerge
from llava.model.token_pruning.prumergeplus import prumergeplus
from llava.model.token_pruning.prunesid import PruneSidOptions, prunesid
from llava.model.token_pruning.published_text import BY_TEXT
from llava.model.token_pruning.visionzip import VisionZipOptions, split, visionzip
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
        elsewhere=("object_layer",),
        by_view=True,
    ),
    PublishedPruner(
        "holov",
        holov,
        HoloVOptions,
        ("attn_cls",),
        "NeurIPS 2025",
        "Apache-2.0",
        by_view=True,
    ),
    PublishedPruner(
        "mustdrop",
        mustdrop,
        MustDropOptions,
        ("hidden",),
        "arXiv 2411.10803",
        "Apache-2.0 (LightCompress)",
        ("", "adaptive"),
        check=window_sides,
        by_view=True,
        reason="distinct",
        keeps_cls=True,
    ),
    PublishedPruner(
        "prumerge",
        prumerge,
        PruMergeOptions,
        ("hidden", "keys", "query_cls"),
        "arXiv 2403.15388",
        "Apache-2.0",
        ("adaptive", "fixed"),
        reads_last_keys=True,
    ),
    PublishedPruner(
        "prumergeplus",
        prumergeplus,
        PruMergeOptions,
        ("hidden", "keys", "query_cls"),
        "arXiv 2403.15388",
        "Apache-2.0",
        ("adaptive", "fixed"),
        reads_last_keys=True,
    ),
    PublishedPruner(
        "prunesid",
        prunesid,
        PruneSidOptions,
        ("attn_cls", "hidden"),
        "arXiv 2603.09480",
        "Apache-2.0 by its README",
        ("", "exactpca"),
        reason="diverse",
        keeps_cls=True,
    ),
    PublishedPruner(
        "visionzip",
        visionzip,
        VisionZipOptions,
        ("attn_cls", "hidden", "keys"),
        "arXiv 2412.04467",
        "Apache-2.0",
        check=split,
        keeps_cls=True,
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
        merges_projected=True,
        by_view=True,
    ),
)
PUBLISHED = {pruner.name: pruner for pruner in (*_BY_TOWER, *BY_TEXT)}
ALIASES = {"prumerge+": "prumergeplus"}


def find_published(name: object) -> PublishedPruner:
    """Returns a published pruner by its name.

    Raises:
        UserError: there is none of that name; lists them.
    """
    name = ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or name not in PUBLISHED:
        near = did_you_mean(name, PUBLISHED) if isinstance(name, str) else ""
        known = ", ".join(PUBLISHED)
        raise UserError(f"there is no published pruner {quoted(name)}{near}: use {known}")
    return PUBLISHED[name]

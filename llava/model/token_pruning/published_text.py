"""Published pruners that read the question or work inside the LLM, by their golden names."""

from __future__ import annotations

from llava.model.token_pruning.cdpruner import CDPrunerOptions, cdpruner
from llava.model.token_pruning.choice import PublishedPruner
from llava.model.token_pruning.dart import DartOptions, dart
from llava.model.token_pruning.divprune import DivPruneOptions, divprune
from llava.model.token_pruning.fastv import FastVOptions, fastv
from llava.model.token_pruning.mmtok import MMTokOptions, mmtok
from llava.model.token_pruning.pyramiddrop import PyramidDropOptions, pyramiddrop
from llava.model.token_pruning.scope import ScopeOptions, scope
from llava.model.token_pruning.sparsevlm import SparseVlmOptions, sparsevlm
from llava.model.token_pruning.trim import TrimOptions, trim
from llava.model.token_pruning.vscan_llm import VScanLlmOptions, vscan_llm

# vscan_llm is VScan's second stage, of which there are no recorded cases.
BY_TEXT = (
    PublishedPruner(
        "cdpruner",
        cdpruner,
        CDPrunerOptions,
        ("projected", "image_embeds", "text_embeds"),
        "arXiv 2506.10967",
        "Apache-2.0",
        ("", "theta"),
        reason="diverse",
    ),
    PublishedPruner(
        "divprune",
        divprune,
        DivPruneOptions,
        ("projected",),
        "arXiv 2503.02175",
        "CC BY-NC 4.0",
        reason="diverse",
    ),
    PublishedPruner(
        "trim",
        trim,
        TrimOptions,
        ("hidden", "image_embeds", "text_embeds"),
        "arXiv 2409.10994",
        "Apache-2.0",
        ("fixed", "adaptive"),
        reason="question",
    ),
    PublishedPruner(
        "scope",
        scope,
        ScopeOptions,
        ("attn_cls", "hidden"),
        "arXiv 2510.24214",
        "none",
        ("", "add"),
        reason="coverage",
    ),
    PublishedPruner(
        "mmtok",
        mmtok,
        MMTokOptions,
        ("projected", "hidden", "llm_text"),
        "arXiv 2508.18264",
        "Apache-2.0",
        reason="coverage",
    ),
    PublishedPruner("fastv", fastv, FastVOptions, ("llm_attn",), "arXiv 2403.06764", "none"),
    PublishedPruner(
        "pyramiddrop",
        pyramiddrop,
        PyramidDropOptions,
        ("llm_keys", "llm_queries"),
        "arXiv 2410.17247",
        "MIT",
    ),
    PublishedPruner(
        "sparsevlm",
        sparsevlm,
        SparseVlmOptions,
        ("projected", "llm_text", "llm_attn", "llm_hidden"),
        "arXiv 2410.04417",
        "Apache-2.0",
    ),
    PublishedPruner(
        "dart",
        dart,
        DartOptions,
        ("llm_keys", "llm_hidden"),
        "arXiv 2502.11494",
        "Apache-2.0",
        ("", "published"),
    ),
    PublishedPruner(
        "vscan_llm",
        vscan_llm,
        VScanLlmOptions,
        ("llm_keys", "llm_queries"),
        "arXiv 2505.22654",
        "MIT",
    ),
)

"""Published pruners that read the question or work inside the LLM, by their golden names."""

from __future__ import annotations

from collections.abc import Callable

from llava.model.token_pruning.cdpruner import CDPrunerOptions, cdpruner
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.dart import DartOptions, dart
from llava.model.token_pruning.divprune import DivPruneOptions, divprune
from llava.model.token_pruning.fastv import FastVOptions, fastv
from llava.model.token_pruning.mmtok import MMTokOptions, mmtok
from llava.model.token_pruning.pyramiddrop import PyramidDropOptions, pyramiddrop
from llava.model.token_pruning.scope import ScopeOptions, scope
from llava.model.token_pruning.sparsevlm import SparseVlmOptions, sparsevlm
from llava.model.token_pruning.trim import TrimOptions, trim
from llava.model.token_pruning.vscan_llm import VScanLlmOptions, vscan_llm

# Of each: the function, its settings, the paper, the licence of the authors' code, of which nothing
# is here. vscan_llm is VScan's second stage, of which there are no recorded cases.
PUBLISHED_BY_TEXT: dict[str, tuple[Callable[..., list[Choice]], type, str, str]] = {
    "cdpruner": (cdpruner, CDPrunerOptions, "arXiv 2506.10967", "Apache-2.0"),
    "divprune": (divprune, DivPruneOptions, "arXiv 2503.02175", "CC BY-NC 4.0"),
    "trim": (trim, TrimOptions, "arXiv 2409.10994", "Apache-2.0"),
    "scope": (scope, ScopeOptions, "arXiv 2510.24214", "none"),
    "mmtok": (mmtok, MMTokOptions, "arXiv 2508.18264", "Apache-2.0"),
    "fastv": (fastv, FastVOptions, "arXiv 2403.06764", "none"),
    "pyramiddrop": (pyramiddrop, PyramidDropOptions, "arXiv 2410.17247", "MIT"),
    "sparsevlm": (sparsevlm, SparseVlmOptions, "arXiv 2410.04417", "Apache-2.0"),
    "dart": (dart, DartOptions, "arXiv 2502.11494", "Apache-2.0"),
    "vscan_llm": (vscan_llm, VScanLlmOptions, "arXiv 2505.22654", "MIT"),
}
# The arrays that each reads, and the variants that have recorded cases.
READS = {
    "cdpruner": ("projected", "image_embeds", "text_embeds"),
    "divprune": ("projected",),
    "trim": ("hidden", "image_embeds", "text_embeds"),
    "scope": ("attn_cls", "hidden"),
    "mmtok": ("projected", "hidden", "llm_text"),
    "fastv": ("llm_attn",),
    "pyramiddrop": ("llm_keys", "llm_queries"),
    "sparsevlm": ("projected", "llm_text", "llm_attn", "llm_hidden"),
    "dart": ("llm_keys", "llm_hidden"),
    "vscan_llm": ("llm_keys", "llm_queries"),
}
VARIANTS = {
    "cdpruner": ("", "theta"),
    "trim": ("fixed", "adaptive"),
    "scope": ("", "add"),
    "dart": ("", "published"),
}

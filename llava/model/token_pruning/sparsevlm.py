"""SparseVLM: image tokens that the question's raters attend to, and clusters of others.

arXiv 2410.04417, ICML 2025, version 1 of the method. After layers 2, 6 and 15 (counted from 0) of
32. Raters are the text tokens most related to the image; of the tokens that they attend to least,
some are recycled as clusters. This file has the choice of one layer, from given values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llava.errors import UserError
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.common import dots, largest, rows, tokens_to_keep
from llava.model.token_pruning.common_llm import places_of_image
from llava.model.token_pruning.density_peaks import density_peaks

# Average number of tokens, as the authors name it -> tokens after each of the three layers.
SCHEDULES = {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)}


@dataclass(frozen=True)
class SparseVlmOptions:
    """The settings of SparseVLM.

    Attributes:
        layers: the layers of 32, counted from 0, after which tokens are dropped.
        merge_share: int(share n) + 1 of the n dropped tokens are recycled, the most attended.
        cluster_div: m recycled tokens make int(m / div) + 1 clusters.
        seed: the seed of the noise up to 1e-6 that decides between equal densities.
        published: as in the authors' code, K patches (at most N - 1) plus the clusters. With False
            K tokens in all: as many clusters, but at most K - 1, and patches for the rest.
        system_tokens: tokens before the image: 7 in the recorded cases, 35 in LLaVA-1.5's prompt.
        num_patches: n, the image tokens in the layer; None: the number of image tokens in x.
    """

    layers: tuple[int, ...] = (2, 6, 15)
    merge_share: float = 0.3
    cluster_div: int = 10
    seed: int = 0
    published: bool = False
    system_tokens: int = 7
    num_patches: int | None = None


def sparsevlm(
    x: Mapping[str, Tensor], budget: int | None, settings: SparseVlmOptions
) -> list[Choice]:
    """Keeps the patches most attended by the raters, rising, and then clusters of dropped ones.

    Of the arrays, ``raters`` are places in the text, ``recycled`` patches, most attended first, and
    ``clusters`` (G, D) the merged states.

    Args:
        x: ``projected`` (B, N, D), ``llm_text`` (B, T, D), ``llm_attn`` (B, H, T, S) and
            ``llm_hidden`` (B, S, D), the states that are merged; S = system + n + T.
        budget: K; the method has no number of its own.
        settings: see SparseVlmOptions.

    Raises:
        UserError: there is no budget, a setting is out of its range, or the image does not fit.
    """
    if budget is None:
        lists = ", ".join(f"{'/'.join(map(str, SCHEDULES[k]))} for {k}" for k in SCHEDULES)
        raise UserError(f"sparsevlm needs a budget; the authors' for its three layers: {lists}")
    if not 0 <= settings.merge_share <= 1 or settings.cluster_div < 1:
        raise UserError("merge_share must be from 0 to 1, and cluster_div at least 1")
    n = settings.num_patches or x["projected"].shape[1]
    patches, recycled, clusters = counts_of(tokens_to_keep(budget, n, n), n, settings)
    image = places_of_image(x["llm_attn"].shape[-1], settings.system_tokens, n)
    raters = _raters(x["projected"], x["llm_text"])
    rated = x["llm_attn"].mean(1)[:, :, image] * raters[..., None]
    order = largest(rated.sum(1) / raters.sum(1, keepdim=True), n)
    kept = order[:, :patches].sort().values.cpu()
    again = order[:, patches : patches + recycled]
    merged = density_peaks(rows(x["llm_hidden"][:, image], again), clusters, settings.seed)
    voices = [one.nonzero().squeeze(-1) for one in raters]
    return [
        Choice(one, None, patches + clusters, {"raters": r, "recycled": a, "clusters": c})
        for one, r, a, c in zip(kept, voices, again, merged)
    ]


def counts_of(budget: int, num_patches: int, settings: SparseVlmOptions) -> tuple[int, int, int]:
    """Returns the numbers of kept patches, of recycled patches, and of their clusters."""
    kept = min(budget, num_patches - 1) if settings.published else budget
    recycled = _recycled(num_patches - kept, settings)
    clusters = min(recycled, int(recycled / settings.cluster_div) + 1)
    if not settings.published:
        clusters = min(clusters, budget - 1)
        kept = budget - clusters
    dropped = num_patches - kept
    return kept, min(dropped, _recycled(dropped, settings)) if clusters else 0, clusters


def _recycled(dropped: int, settings: SparseVlmOptions) -> int:
    """Returns the number of dropped patches that are recycled, by the authors' rule."""
    return int(dropped * settings.merge_share) + 1


def _raters(image: Tensor, text: Tensor) -> Tensor:
    """Returns (B, T) bool: True for text tokens with more than the average share of the patches.

    If all shares are equal, as for a single token, all tokens are raters.
    """
    shares = dots(image, text).softmax(-1).mean(1)
    raters = shares > shares.mean(-1, keepdim=True)
    return raters | ~raters.any(-1, keepdim=True)

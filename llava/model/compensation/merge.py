"""Merging: each dropped token is averaged into the kept one that is most like it."""

from __future__ import annotations

from collections.abc import Sequence

from llava.model.compensation.supplement import (
    CompensationModule,
    Gives,
    PrunedSample,
    Supplement,
)
from llava.model.multimodal_encoder.visual_tokens import Projected
from llava.model.stopwatch import Stopwatch


class Merge(CompensationModule):
    """Gives the LLM means of tokens instead of the kept ones; a CompensationModule.

    A mean is over all tokens of a cluster (see clusters_of), each with the same weight. It is
    computed before the projector, or after it if the pruner merges tokens there.
    """

    gives = Gives.FEATURES

    def __call__(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[Supplement]:
        """Merges the dropped tokens of each sample; see CompensationModule."""
        return [merged(sample) for sample in samples]


def merged(sample: PrunedSample) -> Supplement:
    """Returns the means of a sample's clusters, in the dtype of its features."""
    found = sample.clusters
    sums = found.own_sizes[:, None] * found.kept + found.joined
    means = (sums / found.sizes[:, None]).to(sample.image.features.dtype)
    return Supplement(features=Projected(means) if sample.pruned.is_projected else means)

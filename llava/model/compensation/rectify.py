"""Rectifying: kept tokens keep their positions, weighted by the tokens that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

from llava.model.compensation.supplement import (
    CompensationModule,
    Gives,
    PrunedSample,
    Supplement,
)
from llava.model.stopwatch import Stopwatch


class Rectify(CompensationModule):
    """Changes how the LLM reads the kept tokens; a CompensationModule.

    A kept token has the position that it would have among all tokens of the image, and the text
    after the image continues as if all tokens were present. The log of its cluster's size (see
    clusters_of) is added to each attention logit of a kept token, which then counts as if it were
    repeated for each token of the cluster. A kept CLS token, which has no position in the image,
    has the first one.
    """

    gives = Gives.POSITION_IDS | Gives.KEY_BIAS

    def __call__(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[Supplement]:
        """Rectifies the kept tokens of each sample; see CompensationModule."""
        return [rectified(sample) for sample in samples]


def rectified(sample: PrunedSample) -> Supplement:
    """Returns the positions and the biases of a sample's kept tokens."""
    return Supplement(
        position_ids=sample.pruned.kept_idx.clamp(min=0),
        key_bias=sample.clusters.sizes.log(),
    )

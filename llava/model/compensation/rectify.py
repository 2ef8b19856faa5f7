"""Rectifying: kept tokens keep their places in the prompt, and count by what they stand for."""

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
    after the image goes on as if all were there. To each attention logit of a kept token the log of
    its cluster's size is added (see clusters_of): it is attended to as if it stood there once for
    each token of the cluster. A kept CLS token, which has no place in the image, has the first one.
    """

    gives = Gives.POSITION_IDS | Gives.KEY_BIAS

    def __call__(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[Supplement]:
        """Rectifies the kept tokens of each sample; see CompensationModule."""
        return [rectified(sample) for sample in samples]


def rectified(sample: PrunedSample) -> Supplement:
    """Returns the places and the biases of a sample's kept tokens."""
    return Supplement(
        position_ids=sample.pruned.kept_idx.clamp(min=0),
        key_bias=sample.clusters.sizes.log(),
    )

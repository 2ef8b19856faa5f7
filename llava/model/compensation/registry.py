"""The compensations by name. To add one, write a file in this folder, and add a line here.

The names, and the flags of the files that each reads, are in llava.compensations, which does not
need torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llava.compensations import CAPTIONS, GRAPHS, NOTHING
from llava.model.compensation.builder import LoadedFrom, load_compensator, load_first_caption
from llava.model.compensation.merge import Merge
from llava.model.compensation.oracle import read_oracle
from llava.model.compensation.rectify import Rectify
from llava.model.compensation.scene_graph import load_scene_graph
from llava.model.compensation.sums import Sum
from llava.model.compensation.supplement import CompensationModule

LOADERS: dict[str, Callable[[LoadedFrom], Any]] = {
    CAPTIONS: load_compensator,  # arXiv 2508.01236
    "caption": load_first_caption,
    GRAPHS: load_scene_graph,  # arXiv 2201.11460
    "oracle": lambda source: read_oracle(source.paths["oracle"]),
    "merge": lambda source: Merge(),
    "rectify": lambda source: Rectify(),
    NOTHING: lambda source: None,
}


def load_compensation(terms: Sequence[str], source: LoadedFrom) -> CompensationModule | None:
    """Returns a compensation, or the sum of several; None if there are no terms.

    Args:
        terms: names of llava.compensations.COMPENSATIONS; see terms_of.
        source: the files and settings to load them from.

    Raises:
        UserError: a file is missing, damaged or of another model, or cannot choose silence; or two
            terms exclude each other.
    """
    loaded = {term: LOADERS[term](source) for term in terms}
    if len(loaded) == 1:
        return loaded[terms[0]]
    return Sum(loaded) if loaded else None

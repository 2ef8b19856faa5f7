"""Scene graphs that a run keeps: they depend on image and question, not on what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from llava.model.compensation.scene_graph import ChosenGraph, SceneGraphWriter
from llava.model.compensation.sums import Sum, find_term
from llava.model.compensation.supplement import CompensationModule, PrunedSample
from llava.model.multimodal_encoder.visual_tokens import VisualTokens
from llava.model.stopwatch import Stopwatch


class RememberingWriter(SceneGraphWriter):
    """A SceneGraphWriter that keeps each graph as long as its encoded image is kept.

    It belongs to one run, in which weights and settings stay; a model's own writer keeps nothing.

    Args:
        writer: with CUDA graphs or without; both share all parts.
    """

    def __init__(self, writer: SceneGraphWriter) -> None:
        super().__init__(writer.model, writer.embed_texts, writer.names, writer.settings)
        self.run_model = writer.run_model
        self._known: WeakKeyDictionary[VisualTokens, dict[str, ChosenGraph]] = WeakKeyDictionary()

    def forward(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[ChosenGraph]:
        """Finds the graphs that are not known yet; see SceneGraphWriter."""
        new = [one for one in samples if one.query.text not in self._known.get(one.image, {})]
        for one, graph in zip(new, super().forward(new, watch) if new else ()):
            self._known.setdefault(one.image, {})[one.query.text] = graph
        return [self._known[one.image][one.query.text] for one in samples]


def remembering(compensation: CompensationModule | None) -> CompensationModule | None:
    """Returns a compensation for one run: the same, but that it keeps scene graphs."""
    if isinstance(compensation, Sum) and find_term(compensation, SceneGraphWriter):
        terms = compensation.terms.items()
        return Sum({name: remembering(term) for name, term in terms})  # type: ignore[misc]
    if isinstance(compensation, SceneGraphWriter):
        return RememberingWriter(compensation)
    return compensation

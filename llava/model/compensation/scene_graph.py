"""The scene graph as a compensation: triplets such as "man riding horse" that fit the question.

This is ACCM's public code of 2026-02, for which no paper exists, on RelTR (arXiv 2201.11460). The
graph depends on image and question only, not on which tokens were kept. It reads all patches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from llava.errors import UserError
from llava.model.compensation.builder import LoadedFrom
from llava.model.compensation.relation_builder import load_relation_model, round_input
from llava.model.compensation.relation_model import RelationModel, Relations
from llava.model.compensation.supplement import Gives, PrunedSample, Supplement, TextQuery
from llava.model.compensation.triplets import (
    Names,
    SceneGraph,
    SceneGraphSettings,
    choose,
    find_triplets,
    join_texts,
    names_of,
)
from llava.model.cuda import CudaGraphs
from llava.model.language_model.tokenizer import Tokenizer
from llava.model.multimodal_encoder.visual_tokens import Needs
from llava.model.prompt_ids import text_room
from llava.model.stopwatch import Stopwatch


@dataclass(frozen=True, eq=False)
class ChosenGraph:
    """The scene graph of one sample, and its part that the LLM reads.

    Attributes:
        graph: the triplets.
        similarity: of each triplet's text with the question.
        chosen: indices into the triplets, by falling similarity.
        sub_boxes, obj_boxes: (T, 4) float32 on the CPU, of each triplet's subject and object:
            centre x, centre y, width, height, from 0 to 1.
        heading: precedes the texts.
    """

    graph: SceneGraph
    similarity: list[float] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    sub_boxes: Tensor | None = None
    obj_boxes: Tensor | None = None
    heading: str = SceneGraphSettings.heading

    @property
    def supplement(self) -> Supplement:
        """The supplement for the LLM: the chosen texts, or nothing if no triplet was found."""
        texts = self.graph.texts
        text = join_texts([texts[place] for place in self.chosen]) if self.chosen else None
        return Supplement(
            text,
            candidates=tuple(texts),
            scores=tuple(self.similarity),
            parts=tuple(self.chosen),
            heading=self.heading,
            title="What was found in the image",
            scored="its likeness to the question",
            details=self,
        )

    def describe(self) -> dict:
        """Returns the record as JSON values, for a trace."""
        boxes = {"sub_box": self.sub_boxes, "obj_box": self.obj_boxes}
        found = {name: rows.tolist() for name, rows in boxes.items() if rows is not None}
        parts = zip(self.graph.triplets, self.similarity, *found.values())
        return {
            "passed": self.graph.passed,
            "kept": [asdict(triplet) for triplet in self.graph.kept],
            "triplets": [
                {"text": triplet.text, "query": triplet.query, "similarity": similarity}
                | dict(zip(found, of_triplet))
                for triplet, similarity, *of_triplet in parts
            ],
            "chosen": self.chosen,
        }


class SceneGraphWriter(nn.Module):
    """Relation model and choice of triplets; a CompensationModule.

    Attributes:
        needs, gives, writes: see CompensationModule.
        run_model: the pass of the relation model, or its CUDA graphs.

    Args:
        model: the relation model, in eval mode.
        embed_texts: encodes texts by CLIP's text tower, (n, P) float32.
        names: the names of the model's objects and predicates.
        settings: how triplets are filtered and chosen.
    """

    needs = Needs.PATCH_EMBEDS | Needs.TEXT_EMBEDS
    gives = Gives.TEXT
    writes = "a scene graph"

    def __init__(
        self,
        model: RelationModel,
        embed_texts: Callable[[Sequence[str]], Tensor],
        names: Names,
        settings: SceneGraphSettings = SceneGraphSettings(),
    ) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.settings = settings
        self.embed_texts = embed_texts
        self.run_model: Callable[..., tuple[Tensor, ...]] = model.forward

    def check(self, query: TextQuery) -> None:
        """Accepts every question: the text tower reads its first 77 ids."""

    def room(self, query: TextQuery, tokenizer: Tokenizer) -> int:
        """Returns the positions of the LLM to keep free: those of the longest names."""
        subject = max(self.names.classes, key=len)
        longest = f"{subject} {max(self.names.predicates, key=len)} {subject}"
        text = join_texts([longest] * self.settings.chosen)
        return text_room(text, tokenizer, self.settings.heading)

    def use_cuda_graphs(self) -> None:
        """Turns the relation model's pass into a CUDA graph on a GPU."""
        self.run_model = CudaGraphs(self.model.forward)

    def parts(self) -> dict[str, nn.Module]:
        """Returns no modules: the relation model computes in float32, as it was trained."""
        return {}

    def forward(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> list[ChosenGraph]:
        """Finds and chooses triplets; see CompensationModule.

        Args:
            samples: B of them, of images with any number of patches.
            watch: receives the times of "relate", the relation model, and "select", the choice.
        """
        watch = watch or Stopwatch(next(self.parameters()).device)
        questions = [
            round_input(sample.raw_text_embed, self.settings.rounding) for sample in samples
        ]
        with watch.stage("relate"):
            relations = self._relate(samples, questions)
        with watch.stage("select"):
            return [self._choose(*both) for both in zip(relations, questions)]

    def _relate(
        self, samples: Sequence[PrunedSample], questions: Sequence[Tensor]
    ) -> list[Relations]:
        """Returns the model's outputs for each sample; images of one size share a pass."""
        patches = [round_input(sample.whole, self.settings.rounding) for sample in samples]
        found: dict[int, Relations] = {}
        for size in dict.fromkeys(len(of_image) for of_image in patches):
            places = [b for b, of_image in enumerate(patches) if len(of_image) == size]
            embeds = torch.stack([patches[b] for b in places])
            asked = torch.stack([questions[b].to(embeds.device) for b in places])
            of_all = zip(*self.run_model(embeds, asked))
            found |= {b: Relations(*of_one) for b, of_one in zip(places, of_all)}
        return [found[b] for b in range(len(samples))]

    def _choose(self, found: Relations, question: Tensor) -> ChosenGraph:
        """Returns the triplets of one sample, and those that fit its question.

        The texts of a sample are encoded in a pass of their own, so that neither other samples nor
        earlier questions change the last digits.
        """
        logits = found.rel_logits, found.sub_logits, found.obj_logits
        graph = find_triplets(*logits, self.names, self.settings)
        if not graph.triplets:
            return ChosenGraph(graph)
        texts = self.embed_texts(graph.texts)
        chosen, similarity = choose(texts, question.to(texts.device), self.settings)
        queries = [triplet.query for triplet in graph.triplets]
        return ChosenGraph(
            graph,
            similarity,
            chosen,
            found.sub_boxes[queries].cpu(),
            found.obj_boxes[queries].cpu(),
            self.settings.heading,
        )


def load_scene_graph(source: LoadedFrom) -> SceneGraphWriter:
    """Loads the relation model, and the names beside its weights; see names_of.

    Raises:
        UserError: a file is missing, damaged, of another model or another CLIP.
    """
    path, settings = source.paths["scene_graph"], source.graph_settings
    model = load_relation_model(path, source.place.device, settings.rounding)
    names = names_of(path)
    check_relation_model(model, source.embed_dim, names, str(path))
    return SceneGraphWriter(model, source.embed_texts, names, settings)


def check_relation_model(model: RelationModel, embed_dim: int, names: Names, source: str) -> None:
    """Refuses a relation model of another CLIP or other names; see load_scene_graph."""
    if model.embed_dim != embed_dim:
        raise UserError(
            f"{source} reads embeddings of {model.embed_dim} numbers, and CLIP gives {embed_dim}: "
            "it was trained with another CLIP"
        )
    num_classes = model.sub_class_embed.out_features
    names.check(num_classes, model.rel_class_embed.layers[-1].out_features, source)

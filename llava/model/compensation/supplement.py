"""The result of a compensation for dropped tokens, and the protocol of compensations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from llava.constants import CAPTION_HEADING
from llava.mm_utils import send
from llava.model.compensation.clusters import Clusters, clusters_of
from llava.model.multimodal_encoder.visual_tokens import (
    Needs,
    Projected,
    VisualTokens,
    needed,
)
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.pruner import Pruned, Query

if TYPE_CHECKING:
    from llava.model.language_model.tokenizer import Tokenizer


class Gives(Flag):
    """The parts of a Supplement that a compensation fills in."""

    NOTHING = 0
    TEXT = auto()
    FEATURES = auto()
    POSITION_IDS = auto()
    KEY_BIAS = auto()


@dataclass(frozen=True)
class TextQuery:
    """A question about an image, and the names under which a file of texts may have it.

    Attributes:
        text: the question for the text tower, the caption model and the selector.
        question: the question for the LLM.
        id: the name of the question; None where it has none.
        image_name: the name of the image's file, without its folder; None where it has none.
    """

    text: str
    question: str
    id: str | int | None = None
    image_name: str | None = None


@dataclass(frozen=True, eq=False)
class PrunedSample:
    """One sample of a batch after pruning, as a compensation reads it.

    Attributes:
        image: the tower's outputs for all N tokens, with the fields that the compensation needs.
        pruned: the kept tokens.
        query: the question.
        embeds: the question's embeddings, as far as pruner and compensation need them.
    """

    image: VisualTokens
    pruned: Pruned
    query: TextQuery
    embeds: Query = Query()

    @property
    def text_embed(self) -> Tensor:
        """The question (P,) float32 of unit length; Needs.QUESTION."""
        return needed(self.embeds.text_embed)

    @property
    def raw_text_embed(self) -> Tensor:
        """The question (P,) float32 before normalisation; Needs.TEXT_EMBEDS.

        If CLIP's text tower cannot read a question to its end, this is the part that it reads.
        """
        return needed(self.embeds.text_embeds)[0]

    @property
    def dropped(self) -> Tensor:
        """The embeddings (M, P) of the patches to describe in index order; see described_idx.

        Of an image of several views they are those of the first, which shows the whole image,
        unless texts are written of all views, or the first drops none. With a CLIP beside the
        model's own tower they are its patches at the places of the tokens.
        """
        beside = self.image.side_embeds
        embeds = needed(self.image.patch_embeds) if beside is None else beside
        return embeds[send(self._described_idx, embeds.device)]

    @property
    def _described_idx(self) -> Tensor:
        """The rows of the embeddings of dropped, int64, rising."""
        described, image = self.pruned.described_idx, self.image
        if image.side_idx is not None:
            places = torch.isin(image.side_idx, described).nonzero().squeeze(-1)
            # A drop that is smaller than a patch may hold no centre of one.
            return places if len(places) else needed(image.patch_idx)[described].unique()
        of_first = described[described < image.num_described]
        return of_first if len(of_first) else described

    @property
    def whole(self) -> Tensor:
        """The embeddings (M, P) of all patches that texts are written of; see num_described.

        With a CLIP beside the model's own tower they are all of its patches.
        """
        if self.image.side_embeds is not None:
            return self.image.side_embeds
        return needed(self.image.patch_embeds)[: self.image.num_described]

    @cached_property
    def clusters(self) -> Clusters:
        """The kept tokens with the dropped ones that are most like them; see clusters_of."""
        return clusters_of(self.image, self.pruned)

    @property
    def kept_share(self) -> float:
        """The share K / N of the tokens that the LLM reads, in the mean over its layers."""
        return self.pruned.mean_tokens / self.pruned.num_tokens


@dataclass(frozen=True, eq=False)
class Supplement:
    """The input of the LLM for the dropped tokens of one image, and how it was chosen.

    Attributes:
        text: what the LLM reads as additional information; None where it receives no text.
        candidates: the texts from which it was chosen; "" stands for no text.
        scores: one for each candidate; empty where they have none.
        chosen: index of the chosen one; None where there was no choice of one.
        parts: indices of the candidates that the text is made of, where it is made of several.
        heading: precedes the text, with a blank between them.
        title, scored: what the candidates and their scores are, where they are shown.
        features: K tokens that replace the kept ones: features (K, C), or already projected; None
            replaces none.
        position_ids: (K,) int64, the kept tokens' positions among the image's N positions. The text
            after the image then continues after the Nth position. None numbers the kept tokens
            consecutively.
        key_bias: (K,) float32, added to the attention logits of the kept tokens in all layers;
            None adds nothing.
        details: the compensation's own record, for traces; of a sum, the records of its parts.
    """

    text: str | None = None
    candidates: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    chosen: int | None = None
    parts: tuple[int, ...] = ()
    heading: str = CAPTION_HEADING
    title: str = "What the dropped tokens said"
    scored: str = "the selector’s scores"
    features: Tensor | Projected | None = None
    position_ids: Tensor | None = None
    key_bias: Tensor | None = None
    details: Any = None

    @property
    def supplement(self) -> Supplement:
        """The object itself: it is its own record where a compensation has no other."""
        return self

    @property
    def changes_tokens(self) -> bool:
        """Whether the compensation changes how the LLM reads the kept tokens."""
        changes = (self.features, self.position_ids, self.key_bias)
        return any(change is not None for change in changes)

    @property
    def told(self) -> str:
        """The text to show, without blanks around it; "" if there is none."""
        return (self.text or "").strip()

    @property
    def shown(self) -> list[tuple[str, float | None, bool]]:
        """The candidates to show: each with its score, if any, and whether the LLM reads it."""
        scores = self.scores or (None,) * len(self.candidates)
        read = self.parts or (self.chosen,)
        return [
            (text.strip() or "(no caption)", score, place in read)
            for place, (text, score) in enumerate(zip(self.candidates, scores))
        ]


class HasSupplement(Protocol):
    """A compensation's own record of one sample; a Supplement is one."""

    @property
    def supplement(self) -> Supplement:
        """The supplement for the LLM."""


class CompensationModule(Protocol):
    """A compensation: from the samples of a batch to the LLM's input for dropped tokens.

    A compensation without weights is a class derived from this one, which defines ``__call__`` and
    overrides members where needed. One with weights is an nn.Module that has all these members.

    Attributes:
        needs: the values that the towers must compute for it.
        gives: the parts of its supplements.
        writes: its text in words, such as "a caption"; empty where it writes none.
    """

    needs: Needs = Needs.NOTHING
    gives: Gives = Gives.NOTHING
    writes: str = ""

    def check(self, query: TextQuery) -> None:
        """Refuses a question that it cannot compensate, before anything is computed.

        Raises:
            UserError: what is wrong with it; a TooLong where it is the length.
        """
        return None

    def room(self, query: TextQuery, tokenizer: Tokenizer) -> int:
        """Returns the positions of the LLM to keep free for its text."""
        return 0

    def use_cuda_graphs(self) -> None:
        """Turns its passes into CUDA graphs on a GPU."""
        return None

    def parts(self) -> dict[str, nn.Module]:
        """Returns the modules whose matrix products have a form; see llava.model.products.forms."""
        return {}

    def __call__(
        self, samples: Sequence[PrunedSample], watch: Stopwatch | None = None
    ) -> Sequence[HasSupplement]:
        """Compensates B samples; the result for one does not depend on the others.

        Args:
            samples: B of them.
            watch: receives the times of its stages.
        """
        raise NotImplementedError

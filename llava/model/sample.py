"""The pipeline's input and output: Sample, Encoded, Answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image
from torch import Tensor

from llava.decoding import GREEDY, Decoding
from llava.errors import UserError, quoted
from llava.method import DEFAULT_MAX_NEW_TOKENS, Method
from llava.model.compensation.caption_writer import Written
from llava.model.compensation.supplement import HasSupplement, Supplement, TextQuery
from llava.model.multimodal_encoder.visual_tokens import View, VisualTokens
from llava.model.token_pruning.accm import Selection
from llava.model.token_pruning.layer_pruner import LayerKept
from llava.model.token_pruning.pruner import Pruned, Query

Record = TypeVar("Record")


@dataclass(frozen=True)
class Asked:
    """A question about an image.

    Attributes:
        image: see Sample and Request.
        question: the text after ``<image>`` and a newline in the prompt.
        tower_question: the part of the question that text tower, caption model and selector read;
            None takes the first line.
    """

    image: object
    question: str
    tower_question: str | None = None


@dataclass(frozen=True)
class AnswerSettings:
    """Says how an answer is written.

    Attributes:
        max_new_tokens: the largest number of its tokens.
        temperature, top_p, num_beams: how its tokens are chosen; see Decoding.
    """

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    temperature: float = 0.0
    top_p: float | None = None
    num_beams: int = 1


@dataclass(frozen=True)
class Sample(AnswerSettings, Method, Asked):
    """One question about one image; its fields are those of its bases, the last of them first.

    Attributes:
        image: an image, or its result of encode_images. Samples that share the object share its
            encoding.
        history: questions and answers of the same conversation before it.
        text_embed: (P,), the result of encode_questions for the tower question; None computes it.
        id, image_name: names under which a file of texts may have the sample; see TextQuery.
    """

    image: Image.Image | VisualTokens
    history: tuple[tuple[str, str], ...] = ()
    text_embed: Tensor | None = None
    id: str | int | None = None
    image_name: str | None = None

    @property
    def decoding(self) -> Decoding:
        """Returns how the answer's tokens are chosen."""
        return Decoding(self.temperature, self.top_p, self.num_beams, self.seed)

    @property
    def question_of_the_method(self) -> str:
        """The question for the text tower, the caption model and the selector."""
        if self.tower_question is not None:
            return self.tower_question
        return self.question.split("\n", 1)[0]

    @property
    def text_query(self) -> TextQuery:
        """The values of the sample, except its image, that a compensation reads."""
        return TextQuery(self.question_of_the_method, self.question, self.id, self.image_name)


@dataclass(frozen=True)
class Encoded:
    """One sample after stage 1.

    Attributes:
        image: the tower's outputs; samples of one image share the object.
        query: the values of the question that the sample's pruner and compensation read.
    """

    image: VisualTokens
    query: Query

    @property
    def text_embed(self) -> Tensor | None:
        """The question (P,) float32 of unit length; None where it is not needed."""
        return self.query.text_embed


@dataclass(frozen=True)
class Answer:
    """The answer to one sample, with the results of each stage.

    Attributes:
        text: the answer, blanks around it removed.
        raw_text: the answer as decoded.
        out_ids: its token ids.
        first_logits: (V,) float32, of its first token.
        kept_idx: the patches that the LLM saw, in order; -1 is the CLS token.
        pruned: the kept patches with reasons; None if nothing was pruned.
        compensation: the compensation's own record; None where there is none.
        input_ids: the LLM's input, IMAGE_TOKEN_INDEX for the image.
        input_length: positions of the LLM's input, visual tokens included.
        seconds: the time of each stage, for the whole batch of the sample.
        decoding: how its tokens were chosen.
        layer_kept: the visual tokens that remained inside the LLM, by rising layers; empty if all
            its layers read the same ones.
        views: the grids of the image's tokens.
        resolved_num: the budget of this image where it is not the number that was asked for: K of
            a share, or N where N is smaller.
    """

    text: str
    raw_text: str
    out_ids: list[int]
    first_logits: Tensor
    kept_idx: list[int]
    pruned: Pruned | None
    compensation: HasSupplement | None
    input_ids: list[int]
    input_length: int
    seconds: dict[str, float]
    decoding: Decoding = GREEDY
    layer_kept: tuple[LayerKept, ...] = ()
    views: tuple[View, ...] = ()
    resolved_num: int | None = None

    @property
    def view_counts(self) -> list[tuple[int, int]]:
        """For each view the number of its tokens, and how many of them the LLM read."""
        return counts_by_view(self.views, self.kept_idx)

    @property
    def views_record(self) -> dict:
        """The views as JSON values, and the number of newline tokens; empty where there is one."""
        return views_record(self.views, self.kept_idx, self.num_separators)

    @property
    def num_separators(self) -> int:
        """The positions that the LLM read between the visual tokens, such as newline tokens."""
        return self.input_length - (len(self.input_ids) - 1) - len(self.kept_idx)

    @property
    def mean_visual_tokens(self) -> float:
        """The mean over the LLM's layers of the visual tokens that they read."""
        return len(self.kept_idx) if self.pruned is None else self.pruned.mean_tokens

    @property
    def reasons(self) -> dict[int, str]:
        """The reason why each kept token was kept when others were dropped."""
        if self.pruned is None:
            return {}
        return dict(zip(self.kept_idx, self.pruned.reasons))

    @property
    def supplement(self) -> Supplement | None:
        """The LLM's input for the dropped tokens; None if there was no compensation."""
        return None if self.compensation is None else self.compensation.supplement

    @property
    def written(self) -> Written | None:
        """The record of the captions, also in a sum; None where no captions were written."""
        return self.find_record(Written)

    def find_record(self, kind: type[Record]) -> Record | None:
        """Returns a compensation's own record of a kind, also in a sum; None where none is."""
        supplement = self.supplement
        terms = () if supplement is None else supplement.details
        records = [self.compensation, *(terms if isinstance(terms, tuple) else ())]
        return next((record for record in records if isinstance(record, kind)), None)

    @property
    def selection(self) -> Selection | None:
        """The record of ACCM's choice; None where ACCM did not choose."""
        details = None if self.pruned is None else self.pruned.details
        return details if isinstance(details, Selection) else None


def counts_by_view(views: Sequence[View], kept_idx: Sequence[int]) -> list[tuple[int, int]]:
    """Returns for each view the number of its tokens, and how many of them are kept."""
    kept = set(kept_idx)
    idx = [view.idx.tolist() for view in views]
    return [(len(of_view), len(kept.intersection(of_view))) for of_view in idx]


def views_record(views: Sequence[View], kept_idx: Sequence[int], num_newlines: int) -> dict:
    """Returns the views and newline tokens of an image as JSON; empty where there is one view."""
    if len(views) < 2:
        return {}
    described = [
        {"start": view.start, "rows": view.rows, "columns": view.columns}
        | {"stride": view.row_stride, "tokens": tokens, "kept": kept}
        for view, (tokens, kept) in zip(views, counts_by_view(views, kept_idx))
    ]
    return {"views": described, "newline_tokens": num_newlines}


def check_limits(sample: Sample) -> None:
    """Refuses an invalid seed or length.

    Raises:
        UserError: names its value and the valid ones.
    """
    check_number("seed", sample.seed, 0)
    check_number("max_new_tokens", sample.max_new_tokens, 1)


def check_number(name: str, value: object, low: int) -> None:
    """Refuses a value that is not a whole number of at least ``low``.

    Raises:
        UserError: names its value and the valid ones.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**63:
        raise UserError(
            f"{name} is {quoted(value)}; it must be a whole number from {low} to 2**63 - 1"
        )

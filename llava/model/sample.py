"""What goes into the pipeline, and what comes out: Sample, Encoded, Answer."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from llava.constants import DEFAULT_IMAGE_TOKEN
from llava.errors import UserError, quoted
from llava.method import DEFAULT_MAX_NEW_TOKENS, Method
from llava.model.compensation.compensator import Compensation
from llava.model.language_model.decoding import GREEDY, Decoding
from llava.model.multimodal_encoder.visual_tokens import VisualTokens
from llava.model.token_pruning.accm import Selection
from llava.model.token_pruning.pruner import Pruned
from llava.model.token_pruning.registry import NO_IMAGE


@dataclass(frozen=True, kw_only=True)
class RequestSettings(Method):
    """What is asked, and how: all of a sample but its image.

    Attributes:
        tower_question: the part of the question that text tower, caption model and selector read;
            None takes the first line.
        max_new_tokens: limit of the answer.
        temperature, top_p, num_beams: how the answer's tokens are chosen; see Decoding.
    """

    tower_question: str | None = None
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    temperature: float = 0.0
    top_p: float | None = None
    num_beams: int = 1


@dataclass(frozen=True)
class Sample(RequestSettings):
    """One question about one image.

    Attributes:
        image: an image, or what encode_images made of it. Samples that share the object share its
            encoding.
        question: what follows ``<image>`` and a newline in the prompt.
        history: questions and answers of the same conversation before it.
        text_embed: (P,), what encode_questions made of the tower question; None lets it be made.
    """

    image: Image.Image | VisualTokens
    question: str
    history: tuple[tuple[str, str], ...] = ()
    text_embed: Tensor | None = None

    @property
    def sees_nothing(self) -> bool:
        """Whether the LLM gets to see no visual token of the image."""
        return self.no_image or self.pruner == NO_IMAGE.name

    @property
    def decoding(self) -> Decoding:
        """How the answer's tokens are chosen."""
        return Decoding(self.temperature, self.top_p, self.num_beams, self.seed)

    @property
    def question_of_the_method(self) -> str:
        """What the text tower, the caption model and the selector read."""
        if self.tower_question is not None:
            return self.tower_question
        return self.question.split("\n", 1)[0]


@dataclass(frozen=True)
class Encoded:
    """Stage 1 for one sample.

    Attributes:
        image: what the tower says of it; samples of one image share the object.
        text_embed: (P,) float32 of unit length, the question; None where nothing is to be pruned.
    """

    image: VisualTokens
    text_embed: Tensor | None


@dataclass(frozen=True)
class Answer:
    """What happened to one sample.

    Attributes:
        text: the answer, blanks around it removed.
        raw_text: the answer as decoded.
        out_ids: its token ids.
        first_logits: (V,) float32, of its first token.
        kept_idx: the patches that the LLM saw, in order.
        pruned: which, and why; None where nothing was pruned.
        compensation: the captions; None where there was none.
        input_ids: what the LLM read, IMAGE_TOKEN_INDEX for the image.
        input_length: positions of the LLM's input, visual tokens included.
        seconds: what each stage took, for the whole batch that the sample was answered in.
        decoding: how its tokens were chosen.
    """

    text: str
    raw_text: str
    out_ids: list[int]
    first_logits: Tensor
    kept_idx: list[int]
    pruned: Pruned | None
    compensation: Compensation | None
    input_ids: list[int]
    input_length: int
    seconds: dict[str, float]
    decoding: Decoding = GREEDY

    @property
    def reasons(self) -> dict[int, str]:
        """Why each token was kept that stayed when others went."""
        if self.pruned is None:
            return {}
        return dict(zip(self.kept_idx, self.pruned.reasons))

    @property
    def selection(self) -> Selection | None:
        """What ACCM's pruner says of its choice; None where it was not the one, or not asked."""
        details = None if self.pruned is None else self.pruned.details
        return details if isinstance(details, Selection) else None


def check_text(what: str, text: object) -> None:
    """Refuses what is no question.

    Raises:
        UserError: says so of ``what``.
    """
    if not isinstance(text, str):
        raise UserError(f"the {what} is {quoted(text)}, not a text")
    if not text.strip():
        raise UserError(f"the {what} is empty: write what is asked about the image")
    if DEFAULT_IMAGE_TOKEN in text:
        raise UserError(
            f"the {what} holds {DEFAULT_IMAGE_TOKEN}: a question is about one image, whose place "
            "in the prompt is set already. Take it out; ask about another image separately"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the {what} is not valid Unicode ({error.reason}): save it as UTF-8"
        ) from error


def check_limits(sample: Sample) -> None:
    """Refuses a seed or a length that is none.

    Raises:
        UserError: says what it is and may be.
    """
    check_number("seed", sample.seed, 0)
    check_number("max_new_tokens", sample.max_new_tokens, 1)


def check_number(name: str, value: object, low: int) -> None:
    """Refuses what is not a whole number of at least ``low``.

    Raises:
        UserError: says what it is and may be.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**63:
        raise UserError(
            f"{name} is {quoted(value)}; it must be a whole number from {low} to 2**63 - 1"
        )

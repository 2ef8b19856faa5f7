"""What goes into the pipeline, and what comes out: Sample, Encoded, Answer."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from llava.errors import UserError, quoted
from llava.model.compensation.compensator import Compensation
from llava.model.language_model.decoding import GREEDY, Decoding
from llava.model.multimodal_encoder.clip_encoder import EncodedImage
from llava.model.token_pruning.accm import Selection

DEFAULT_SEED = 42
DEFAULT_MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class Sample:
    """One question about one image.

    Attributes:
        image: an image, or what encode_images made of it. Samples that share the object share its
            encoding.
        question: what follows ``<image>`` and a newline in the prompt.
        tower_question: the part of it that text tower, caption model and selector read; None takes
            the first line.
        visual_token_num: K; None takes VISUAL_TOKEN_NUM of clip_encoder.py.
        text_token_num: T; None takes the paper's share of K (budget.py).
        seed: of the random draws (of patches; with a temperature, of tokens), so that a
            result depends on nothing but its sample.
        max_new_tokens: limit of the answer.
        no_image: let the LLM read the prompt without any visual token and without a caption: what
            can be answered so needs no image, and is the floor to compare with.
        history: questions and answers of the same conversation before it.
        text_embed: (P,), what encode_questions made of the tower question; None lets it be made.
        temperature, top_p, num_beams: how the answer's tokens are chosen; see Decoding.
    """

    image: Image.Image | EncodedImage
    question: str
    tower_question: str | None = None
    visual_token_num: int | None = None
    text_token_num: int | None = None
    seed: int = DEFAULT_SEED
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    no_image: bool = False
    history: tuple[tuple[str, str], ...] = ()
    text_embed: Tensor | None = None
    temperature: float = 0.0
    top_p: float | None = None
    num_beams: int = 1

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

    image: EncodedImage
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
        selection: why; None where nothing was pruned.
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
    selection: Selection | None
    compensation: Compensation | None
    input_ids: list[int]
    input_length: int
    seconds: dict[str, float]
    decoding: Decoding = GREEDY


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

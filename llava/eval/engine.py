"""The answering engine: requests in, outcomes out, in order; one bad request costs one answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from llava.errors import UserError
from llava.mm_utils import load_image
from llava.model.llava_arch import DEFAULT_MAX_NEW_TOKENS, DEFAULT_SEED, Answer, LlavaAccm, Sample


@dataclass(frozen=True)
class Request:
    """A question about an image file; see llava_arch.Sample for the fields."""

    id: str | int
    image: Path
    question: str
    tower_question: str | None = None
    visual_token_num: int | None = None
    text_token_num: int | None = None
    seed: int = DEFAULT_SEED
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS

    def sample(self, image: Image.Image) -> Sample:
        """The request with its image loaded."""
        return Sample(
            image=image,
            question=self.question,
            tower_question=self.tower_question,
            visual_token_num=self.visual_token_num,
            text_token_num=self.text_token_num,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a request: an answer, or the reason why there is none."""

    request: Request
    answer: Answer | None
    error: str | None


def answer_requests(
    model: LlavaAccm, requests: Sequence[Request], batch_size: int
) -> Iterator[Outcome]:
    """Answers requests batch by batch; neighbours with the same image share its encoding.

    Raises:
        UserError: the batch size is not a number of at least 1.
    """
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; it must be at least 1")
    for start in range(0, len(requests), batch_size):
        yield from _answer_batch(model, requests[start : start + batch_size])


def _answer_batch(model: LlavaAccm, requests: Sequence[Request]) -> list[Outcome]:
    images: dict[Path, Image.Image] = {}
    samples: dict[int, Sample] = {}
    errors: dict[int, str] = {}
    for place, request in enumerate(requests):
        try:
            if request.image not in images:
                images[request.image] = load_image(request.image)
            sample = request.sample(images[request.image])
            model.check(sample)
            samples[place] = sample
        except UserError as error:
            errors[place] = str(error)
    answers = dict(zip(samples, model.answer(list(samples.values())))) if samples else {}
    return [
        Outcome(request, answers.get(place), errors.get(place))
        for place, request in enumerate(requests)
    ]

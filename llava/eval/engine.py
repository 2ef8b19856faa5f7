"""The answering engine: requests in, outcomes out; a bad request costs only its own answer.

Worker threads read and preprocess images while the model answers, and each image is encoded once
for all its questions.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from PIL import Image

from llava.errors import UserError
from llava.eval.caches import Images, PixelReader, QuestionMemory, UnitMemory
from llava.files import dump_json, printable
from llava.method import Method
from llava.model.backbones.pixels import Pixels
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.multimodal_encoder.visual_tokens import Needs, VisualTokens, if_fewer
from llava.model.sample import Answer, AnswerSettings, Asked, Sample

UNITS_AHEAD = 2  # units whose images are read ahead of the model
_WAY_OUT = (
    "the weights are damaged (see python -m llava.checkpoints verify), or the dtype is too narrow "
    "for them: try --dtype bfloat16 or float32"
)


@dataclass(frozen=True)
class _Named:
    id: str | int


@dataclass(frozen=True)
class Request(AnswerSettings, Method, Asked, _Named):
    """A question about an image that has not been read yet; see Sample.

    Attributes:
        id: the name of the request.
        image: a file, or the bytes of one.
    """

    image: Path | bytes

    def sample(self, image: VisualTokens | Image.Image) -> Sample:
        """Returns the request with its image read, or encoded."""
        asked = {f.name: getattr(self, f.name) for f in fields(self)}
        name = self.image.name if isinstance(self.image, Path) else None
        return Sample(**asked | {"image": image, "image_name": name})


@dataclass(frozen=True)
class Outcome:
    """The result of a request: an answer, or the reason why there is none."""

    request: Request
    answer: Answer | None
    error: str | None

    def line(self, name: dict, record: Callable[[Answer], dict]) -> dict:
        """Returns a line of JSON: the name with the answer's record, or with why there is none."""
        if self.answer is None:
            return name | {"error": printable(str(self.error))}
        line = name | record(self.answer)
        try:
            dump_json(line)
        except ValueError as problem:
            return name | {"error": f"the answer cannot be written down ({problem})"}
        return line


@dataclass
class Clock:
    """Times of a run, in seconds.

    Attributes:
        model: time spent in the model.
        wall: total time, loading excluded.
        questions: the number of questions that were answered, or failed, in this time.
    """

    model: float = 0.0
    wall: float = 0.0
    questions: int = 0


# A unit of work: batches that share an image, or one batch. One process answers a whole unit.
Unit = list[list[Request]]


def units_in_order(requests: Sequence[Request], batch_size: int) -> list[Unit]:
    """Cuts requests into batches in their order.

    Raises:
        UserError: the batch size is not a number of at least 1.
    """
    _check_batch_size(batch_size)
    starts = range(0, len(requests), batch_size)
    return [[list(requests[start : start + batch_size])] for start in starts]


def units_by_length(requests: Sequence[Request], batch_size: int) -> list[Unit]:
    """Groups the questions of an image, and puts questions of similar length into one batch.

    The batches depend only on the requests and the batch size: neither on what was answered before
    nor on the number of processes, so that each answer is computed in the same batch.

    Raises:
        UserError: the batch size is not a number of at least 1.
    """
    _check_batch_size(batch_size)
    groups: dict[Path | bytes, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.image, []).append(request)
    by_length = sorted(groups.values(), key=lambda group: max(len(r.question) for r in group))
    units: list[Unit] = []
    batch: list[Request] = []
    for group in by_length:
        if len(group) >= batch_size:
            units += [[chunk for (chunk,) in units_in_order(group, batch_size)]]
            continue
        if len(batch) + len(group) > batch_size:
            units.append([batch])
            batch = []
        batch = batch + group
    return units + ([[batch]] if batch else [])


def answer_units(
    model: LlavaAccm,
    units: Sequence[Unit],
    clock: Clock,
    memory: UnitMemory | None = None,
    texts: QuestionMemory | None = None,
) -> Iterator[Outcome]:
    """Answers units one after the other, while the images of the next ones are read.

    Args:
        model: the model.
        units: the requests, in units.
        clock: receives the times.
        memory: holds the encoded images of earlier units, and keeps those of these.
        texts: encodes the questions; if None, the model encodes those of each batch.
    """
    start = time.perf_counter()
    with PixelReader(model) as pixels:
        run = _Run(
            model,
            clock,
            UnitMemory(limit=0) if memory is None else memory,
            QuestionMemory(()) if texts is None else texts,
            pixels,
        )
        ahead: deque[tuple[Unit, dict]] = deque()
        waiting = iter(units)
        while True:
            while len(ahead) <= UNITS_AHEAD and (unit := next(waiting, None)) is not None:
                ahead.append((unit, _start_reading(run, unit)))
            if not ahead:
                return
            for outcome in _answer_unit(run, *ahead.popleft()):
                clock.wall = time.perf_counter() - start
                clock.questions += 1
                yield outcome


@dataclass(frozen=True)
class _Run:
    """The arguments that all units of a call share; see answer_units."""

    model: LlavaAccm
    clock: Clock
    units: UnitMemory
    texts: QuestionMemory
    pixels: PixelReader
    memory: Memory = field(default_factory=Memory)


def _image_names(unit: Unit) -> tuple[Path | bytes, ...]:
    return tuple(dict.fromkeys(request.image for batch in unit for request in batch))


def _start_reading(run: _Run, unit: Unit) -> dict[Path | bytes, Future[Pixels]]:
    """Starts to read the images of a unit, unless they are encoded already."""
    images = _image_names(unit)
    if run.units.find(images, _needs(run.model, unit)) is not None:
        return {}
    return {image: run.pixels.start(image) for image in images}


def _answer_unit(
    run: _Run, unit: Unit, reading: dict[Path | bytes, Future[Pixels]]
) -> Iterator[Outcome]:
    pixels: dict[Path | bytes, Pixels] = {}
    errors: dict[Path | bytes, str] = {}
    for image, future in reading.items():
        try:
            pixels[image] = future.result()
        except UserError as error:
            errors[image] = str(error)
    start = time.perf_counter()
    names = _image_names(unit)
    needs = _needs(run.model, unit)
    images = run.units.find(names, needs)
    if images is None:
        needs |= run.units.needs if run.units.keeps else Needs.NOTHING
        read = list(pixels.values())
        encoded = run.model.encode_images(read, **if_fewer(needs)) if read else []
        images = dict(zip(pixels, encoded))
        run.units.keep(names, images)
    run.clock.model += time.perf_counter() - start
    for batch in unit:
        yield from _answer_batch(run, batch, images, errors)


def _needs(model: LlavaAccm, unit: Unit) -> Needs:
    """Returns what the tower has to compute for a unit; a faulty request needs nothing."""
    needs = Needs.NOTHING
    for batch in unit:
        for request in batch:
            with suppress(UserError):
                needs |= model.needs([request])
    return needs


def _answer_batch(
    run: _Run, batch: list[Request], images: Images, image_errors: dict[Path | bytes, str]
) -> list[Outcome]:
    samples: dict[int, Sample] = {}
    errors: dict[int, str] = {}
    for place, request in enumerate(batch):
        if request.image in image_errors:
            errors[place] = image_errors[request.image]
            continue
        try:
            sample = request.sample(images[request.image])
            run.model.check(sample)
            samples[place] = sample
        except UserError as error:
            errors[place] = str(error)
    start = time.perf_counter()
    encoded = [_with_text(run.model, sample, run.texts) for sample in samples.values()]
    answers = dict(zip(samples, run.model.answer(encoded, memory=run.memory)))
    run.clock.model += time.perf_counter() - start
    for place, answer in list(answers.items()):
        if (why := _why_not_finite(answer)) is not None:
            del answers[place]
            errors[place] = why
    return [
        Outcome(request, answers.get(place), errors.get(place))
        for place, request in enumerate(batch)
    ]


def _why_not_finite(answer: Answer) -> str | None:
    """Returns why an answer cannot be used: NaN or infinite scores; None if all are finite."""
    supplement = answer.supplement
    if supplement is not None and not all(map(math.isfinite, supplement.scores)):
        return f"the selector's scores are not finite: {_WAY_OUT}"
    if not torch.isfinite(answer.first_logits).all():
        return f"the LLM's scores of words are not finite: {_WAY_OUT}"
    return None


def _with_text(model: LlavaAccm, sample: Sample, texts: QuestionMemory) -> Sample:
    """Returns a sample with its question encoded, if it needs that."""
    if Needs.QUESTION not in model.needs([sample]):
        return sample
    return replace(sample, text_embed=texts.find(model, sample.question_of_the_method))


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; it must be at least 1")

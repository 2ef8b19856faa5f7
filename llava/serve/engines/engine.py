"""The protocol between the server and what generates its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, Union

from llava.compensations import NOTHING
from llava.errors import UserError, quoted
from llava.model.compensation.supplement import Supplement
from llava.model.language_model.prompts import Prompt
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.sample import Sample
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.pruner import Pruned


class EngineError(Exception):
    """An engine failed on a request that is valid; the message is for its client."""


class Unavailable(EngineError):
    """No engine can generate now; the same request may work later."""


@dataclass(frozen=True)
class Request:
    """A question for an engine.

    Attributes:
        sample: the question, its image and how both are asked.
        compensation: a name in Models.
        top_logprobs: number of likely tokens whose log-probabilities are given with each token;
            None gives none.
        num_ids: token ids of its prompt without a text for dropped tokens, one of them for the
            image; None where it was not counted.
    """

    sample: Sample
    compensation: str
    top_logprobs: int | None = None
    num_ids: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A prompt for the LLM, and what it was made of.

    Attributes:
        prompt: the LLM's input.
        pruned: what was kept of the image; None where nothing was pruned.
        supplement: what the LLM is given for the dropped tokens; None where nothing is.
        seconds: of the stages so far, for the whole batch.
    """

    prompt: Prompt
    pruned: Pruned | None
    supplement: Supplement | None
    seconds: dict[str, float]

    @property
    def num_kept(self) -> int:
        """The number of visual tokens that the LLM reads."""
        return self.prompt.num_visual

    @property
    def kept_idx(self) -> list[int]:
        """The patches that the LLM reads, in its order; -1 is the CLS token."""
        return list(range(self.num_kept)) if self.pruned is None else self.pruned.kept_idx.tolist()


@dataclass(frozen=True)
class Token:
    """The next token of an answer.

    Attributes:
        id: in the LLM's vocabulary.
        reason: why the answer ends with it, "stop" or "length"; None where it goes on.
        logprob: its log-probability; None where it was not asked for.
        top: the ids of the likeliest tokens at its place, with their log-probabilities.
    """

    id: int
    reason: str | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


# Receives the number of requests of a batch, and the seconds of its stages.
OnBatch = Callable[[int, Mapping[str, float]], None]
Event = Union[Prepared, Token]


def prepare(
    model: LlavaAccm, samples: list[Sample], watch: Stopwatch, memory: Memory
) -> list[Prepared]:
    """Returns the prompts of samples: stages 1 to 4."""
    pruned, compensations, prompts = model.stages(samples, watch, memory)
    seconds = watch.seconds()
    return [
        Prepared(prompt, kept, given and given.supplement, seconds)
        for prompt, kept, given in zip(prompts, pruned, compensations)
    ]


class Models:
    """A model and its variants by compensation, which share all weights.

    Args:
        model: as it was loaded.
        compensation: the name of its compensation.
    """

    def __init__(self, model: LlavaAccm, compensation: str) -> None:
        self.usual = compensation
        self._models = {NOTHING: model.without_captions(), compensation: model}

    def __getitem__(self, compensation: str) -> LlavaAccm:
        """Returns the variant with a compensation.

        Raises:
            UserError: there is none; the message names those that there are.
        """
        if compensation not in self._models:
            raise UserError(
                f"the compensation is {quoted(compensation)}; this server was started with "
                f"{self.usual}: use {' or '.join(dict.fromkeys((self.usual, NOTHING)))}"
            )
        return self._models[compensation]

    @property
    def usual_model(self) -> LlavaAccm:
        """The model as it was loaded."""
        return self._models[self.usual]

    def each(self, jobs: Sequence[Job]) -> Iterator[tuple[LlavaAccm, list[Job]]]:
        """Yields the variants that jobs ask for, each with its jobs."""
        for name, model in self._models.items():
            if own := [job for job in jobs if job.request.compensation == name]:
                yield model, own


class Engine(Protocol):
    """Generates answers.

    Attributes:
        models: what encodes, prunes and compensates.
    """

    models: Models

    async def start(self) -> None:
        """Prepares for the first request.

        Raises:
            UserError: it cannot answer any.
        """

    def check(self, request: Request) -> None:
        """Refuses a request that it cannot answer, before anything is computed.

        Raises:
            UserError: what cannot be done.
        """

    def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Yields a Prepared, and then the tokens as they come; closing it ends the work.

        Raises:
            EngineError: it failed.
        """

    @property
    def waiting(self) -> int:
        """The number of requests whose work has not begun."""

    @property
    def problem(self) -> str | None:
        """The reason why it cannot generate now; None where it can."""

    async def close(self) -> None:
        """Ends all work."""


class Job:
    """A request on its way through other threads, whose events come back to its event loop.

    Args:
        request: what is asked.

    Attributes:
        has_left: whether nobody waits for its answer any more.
        is_begun: whether it has received a token of its answer, or an exception in its place.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.has_left = self.is_begun = False
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | BaseException] = asyncio.Queue()

    def tell(self, event: Event | BaseException) -> None:
        """Hands an event, or an exception, to whoever waits for it; from any thread."""
        self.is_begun = self.is_begun or not isinstance(event, Prepared)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self) -> Event:
        """Returns the next event.

        Raises:
            Exception: one that came in its place.
        """
        event = await self._events.get()
        if isinstance(event, BaseException):
            raise event
        return event

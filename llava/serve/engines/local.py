"""The project's own pipeline as an engine: every machine can serve with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from llava.errors import UserError
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.stopwatch import Stopwatch
from llava.serve.engines.batcher import Batcher
from llava.serve.engines.engine import (
    Event,
    Job,
    Models,
    OnBatch,
    Request,
    Token,
    prepare,
)


class LocalEngine:
    """Answers in this process; in float32 each answer is the pipeline's own, whatever the batch.

    Args:
        models: the model.
        batch_size: most questions at once.
        batch_seconds: that a question waits for others where none is being answered.
        memory_bytes: kept of images and prompts for later batches.
        on_batch: receives what each batch took.
    """

    def __init__(
        self,
        models: Models,
        batch_size: int,
        batch_seconds: float,
        memory_bytes: int,
        on_batch: OnBatch,
    ) -> None:
        self.models = models
        self._on_batch = on_batch
        self._memory = Memory(memory_bytes)
        self._batcher = Batcher(self._answer_all, batch_size, batch_seconds)

    async def start(self) -> None:
        """Starts its thread."""
        self._batcher.start()

    def check(self, request: Request) -> None:
        """Refuses what the pipeline cannot answer.

        Raises:
            UserError: what cannot be done.
        """
        if request.top_logprobs is not None:
            raise UserError(
                "logprobs are given by the vllm engine only, and this server generates by itself: "
                "leave logprobs out"
            )
        self.models[request.compensation].check(request.sample)

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Yields a Prepared, and then the tokens as they come; closing it ends the work.

        Raises:
            EngineError: it failed, or the server is being stopped.
        """
        job = Job(request)
        self._batcher.put(job)
        try:
            is_over = False
            while not is_over:
                event = await job.next()
                yield event
                is_over = isinstance(event, Token) and event.reason is not None
        finally:
            job.has_left = True

    @property
    def waiting(self) -> int:
        """The number of requests in no batch yet."""
        return self._batcher.waiting

    @property
    def problem(self) -> str | None:
        """The reason why it cannot generate now; None where it can."""
        return None if self._batcher.is_alive else "the thread of the model has ended"

    async def close(self) -> None:
        """Refuses what waits; the present batch goes on, and nobody receives its rest."""
        self._batcher.close()

    def _answer_all(self, jobs: list[Job]) -> None:
        for model, own in self.models.each(jobs):
            self._answer(model, own)

    def _answer(self, model: LlavaAccm, jobs: list[Job]) -> None:
        """Answers the jobs of one model; an answer nobody waits for ends at its next token."""
        samples = [job.request.sample for job in jobs]
        end_ids, written = model.language_model.end_ids, [0] * len(jobs)

        def tell(place: int, token: int) -> bool:
            written[place] += 1
            is_last = written[place] == samples[place].max_new_tokens
            reason = "stop" if token in end_ids else "length" if is_last else None
            jobs[place].tell(Token(token, reason))
            return jobs[place].has_left

        watch = Stopwatch(model.tower.device)
        prepared = prepare(model, samples, watch, self._memory)
        for job, each in zip(jobs, prepared):
            job.tell(each)
        prompts = [each.prompt for each in prepared]
        model.generate(prompts, samples, watch, tell, self._memory)
        self._on_batch(len(jobs), watch.seconds())

"""vLLM as an engine: prompts are made here, and answered by servers that have the LLM alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import httpx
from torch import nn

from llava.errors import UserError
from llava.model.checks import check_outside
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.stopwatch import Stopwatch
from llava.serve.engines.batcher import Batcher
from llava.serve.engines.engine import (
    EngineError,
    Event,
    Job,
    Models,
    OnBatch,
    Prepared,
    Request,
    Unavailable,
    prepare,
)
from llava.serve.engines.replicas import Replica, Replicas
from llava.serve.engines.vllm_http import (
    Lost,
    completion_body,
    encoded,
    is_healthy,
    probe,
    stream_tokens,
)

_LOOK_SECONDS = 2.0  # between two looks at the servers


def without_layers(model: LlavaAccm) -> LlavaAccm:
    """Returns a model whose LLM has only its embeddings: enough for prompts, and little memory."""
    llm = model.language_model.llm
    llm.model.layers, llm.lm_head = nn.ModuleList(), nn.Identity()
    return model


class VllmEngine:
    """Makes prompts in this process, and lets servers of vLLM generate.

    Args:
        models: make the prompts.
        addresses: of the servers.
        batch_size, batch_seconds, memory_bytes, on_batch: see LocalEngine.
    """

    def __init__(
        self,
        models: Models,
        addresses: Sequence[str],
        batch_size: int,
        batch_seconds: float,
        memory_bytes: int,
        on_batch: OnBatch,
    ) -> None:
        self.models = models
        self._replicas = Replicas(addresses)
        self._memory = Memory(memory_bytes)
        self._batcher = Batcher(self._prepare_all, batch_size, batch_seconds)
        self._on_batch = on_batch

    async def start(self) -> None:
        """Asks the servers whether they can answer, and begins to look after them.

        Raises:
            UserError: none can.
        """
        if self.models.usual_model.backbone.has_mrope:
            raise UserError(
                "the vllm engine reads prompts as embeddings, whose positions it counts itself; "
                "this model's visual tokens have positions of their own (M-RoPE), which would be "
                "lost: use --engine local"
            )
        # vLLM closes a connection that was idle for 5 seconds, maybe just when a request leaves.
        limits = httpx.Limits(max_connections=None, keepalive_expiry=2.0)
        timeout = httpx.Timeout(None, connect=5.0)
        # Proxies of the environment are for other machines.
        self._client = httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False)
        await asyncio.gather(*map(self._ask, self._replicas.all))
        if (problem := self._replicas.problem) is not None:
            await self._client.aclose()
            raise UserError(f"no engine can answer: {problem}")
        self._batcher.start()
        self._looking = asyncio.create_task(self._look_after())

    def check(self, request: Request) -> None:
        """Refuses what the pipeline cannot prepare, or the servers cannot answer.

        Raises:
            UserError: what cannot be done.
        """
        sample, model = request.sample, self.models[request.compensation]
        model.check(sample)
        check_outside(model, sample)
        lengths = [each.max_length for each in self._replicas.all if each.problem is None]
        wanted = model.prompt_length(sample) + sample.max_new_tokens
        if lengths and wanted > min(lengths):
            raise UserError(
                f"prompt and answer may take {wanted} positions, and the engine has "
                f"{min(lengths)} (--max-model-len): shorten the question, or ask for fewer tokens"
            )

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Yields a Prepared, and then the tokens as they come; closing it ends the work.

        Raises:
            EngineError: it failed.
        """
        job = Job(request)
        self._batcher.put(job)
        try:
            prepared = await job.next()
        finally:
            job.has_left = True
        assert isinstance(prepared, Prepared)  # all that its thread tells
        yield prepared
        prompt = await asyncio.to_thread(encoded, prepared.prompt.embeds)
        sample = request.sample
        body = completion_body(prompt, sample.max_new_tokens, sample.decoding, request.top_logprobs)
        language_model = self.models.usual_model.language_model
        tried: set[Replica] = set()
        is_begun = False
        while True:
            replica = self._replicas.choose(tried)
            tokens = stream_tokens(self._client, replica, body, language_model.end_id)
            try:
                with replica.busy():
                    async with aclosing(tokens):
                        async for token in tokens:
                            is_begun = True
                            yield replace(token, top=token.top[: request.top_logprobs])
                return
            except Lost as lost:
                if not await is_healthy(self._client, replica):  # else it failed on this one only
                    replica.problem = f"it was lost ({lost})"
                tried.add(replica)
                if is_begun:
                    raise Unavailable(
                        "the engine was lost in the middle of the answer: ask again"
                    ) from lost

    @property
    def waiting(self) -> int:
        """The number of requests in no batch yet."""
        return self._batcher.waiting

    @property
    def problem(self) -> str | None:
        """The reason why it cannot generate now; None where it can."""
        if not self._batcher.is_alive:
            return "the thread of the model has ended"
        return self._replicas.problem

    async def close(self) -> None:
        """Ends all work."""
        self._batcher.close()
        self._looking.cancel()
        await self._client.aclose()

    def _prepare_all(self, jobs: list[Job]) -> None:
        for model, own in self.models.each(jobs):
            self._prepare(model, own)

    def _prepare(self, model: LlavaAccm, jobs: list[Job]) -> None:
        """Makes the prompts of the jobs of one model."""
        watch = Stopwatch(model.tower.device)
        prepared = prepare(model, [job.request.sample for job in jobs], watch, self._memory)
        self._on_batch(len(jobs), prepared[0].seconds)
        for job, each in zip(jobs, prepared):
            # The engine itself answers such a prompt with nothing, as if all were well.
            if not each.prompt.embeds.isfinite().all():
                job.tell(EngineError("the prompt is not finite: the weights may be damaged"))
            else:
                job.tell(each)

    async def _look_after(self) -> None:
        """Notices servers that die, and those that are back."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.gather(*map(self._look, self._replicas.all))

    async def _look(self, replica: Replica) -> None:
        if replica.problem is not None:
            await self._ask(replica)
        elif not await is_healthy(self._client, replica):
            replica.problem = "it is not there, or not well"

    async def _ask(self, replica: Replica) -> None:
        width = self.models.usual_model.language_model.llm.config.hidden_size
        replica.problem = await probe(self._client, replica, width)

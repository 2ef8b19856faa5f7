"""From a request for a chat completion to a question for an engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from PIL import Image

from llava.errors import UserError
from llava.method import ALL_TOKENS, NO_TOKENS, Method
from llava.model.sample import Sample
from llava.model.splicing import input_ids
from llava.serve.engines.engine import Engine, Request
from llava.serve.openai.errors import ApiError, no_model
from llava.serve.openai.images import ImageReader
from llava.serve.openai.limits import Limits
from llava.serve.openai.protocol import ChatRequest


class Asker:
    """Makes questions for an engine.

    Args:
        engine: checks them.
        images: reads their images.
        limits: of a request.
        model: the name under which clients know the model.
        method: how a question is asked where a request does not say.
    """

    def __init__(
        self, engine: Engine, images: ImageReader, limits: Limits, model: str, method: Method
    ) -> None:
        self._engine = engine
        self._images = images
        self._limits = limits
        self._model = model
        self._method = method

    async def ask(self, asked: ChatRequest) -> Request:
        """Returns the question of a request; it may take the seconds of fetching its image.

        Raises:
            ApiError: it cannot be answered.
        """
        if asked.model != self._model:
            raise no_model(asked.model, self._model)
        self._check_lengths(asked)
        talk = asked.conversation
        try:
            image = await self._images.read(talk.image_url)
        except UserError as error:
            raise ApiError(str(error), param=talk.image_name, code="invalid_image") from error
        try:
            return await asyncio.to_thread(self._checked, asked, image)
        except UserError as error:
            raise ApiError(str(error)) from error

    def _check_lengths(self, asked: ChatRequest) -> None:
        talk, most = asked.conversation, self._limits.text_characters
        length = len(talk.question) + sum(len(text) for turn in talk.history for text in turn)
        if length > most:
            raise ApiError(
                f"the messages have {length:,} characters, and this server takes at most {most:,}: "
                "shorten them",
                param="messages",
            )
        if (asked.max_tokens or 1) > self._limits.new_tokens:
            raise ApiError(
                f"max_tokens is {asked.max_tokens}, and this server gives answers of at most "
                f"{self._limits.new_tokens}: ask for fewer",
                param="max_tokens",
            )

    def _checked(self, asked: ChatRequest, image: Image.Image) -> Request:
        """Returns the question about an image.

        Raises:
            UserError: it cannot be answered.
        """
        accm, usual, talk = asked.accm, self._method, asked.conversation
        pruner = accm.pruner or usual.pruner
        options, split = usual.pruner_options, usual.view_split
        if accm.pruner is not None:  # the server's settings are of its own pruner
            options, split = (), None
        kept = accm.visual_token_num
        if kept is None and pruner not in (ALL_TOKENS, NO_TOKENS):
            kept = usual.visual_token_num
        sample = Sample(
            image,
            talk.question,
            history=talk.history,
            visual_token_num=kept,
            text_token_num=accm.text_token_num,
            seed=usual.seed if accm.seed is None else accm.seed,
            max_new_tokens=asked.max_tokens or self._limits.new_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            pruner=pruner,
            pruner_options=options if accm.pruner_options is None else accm.pruner_options,
            view_split=split if accm.view_split is None else accm.view_split,
        )
        compensation = accm.compensation or self._engine.models.usual
        request = Request(sample, compensation, asked.top_logprobs)
        self._engine.check(request)
        ids = input_ids(self._engine.models[compensation], sample)
        return replace(request, num_ids=len(ids))

"""The interface of vLLM's servers over HTTP, as far as this project needs it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx
import torch
from torch import Tensor

from llava.decoding import Decoding
from llava.errors import shown
from llava.serve.engines.engine import EngineError, Token
from llava.serve.engines.replicas import Replica

OLDEST = (0, 32)  # with which this project was tested
_TOKEN_ID = re.compile(r"token_id:(\d+)")
_PROBE_SECONDS = 10.0


class Lost(Exception):
    """A server is not there, or was lost in the middle of an answer."""


def encoded(embeds: Tensor) -> str:
    """Returns a prompt (L, D) as vLLM reads it: a tensor's file in base64."""
    file = io.BytesIO()
    torch.save(embeds.detach().cpu().contiguous().clone(), file)
    return base64.b64encode(file.getvalue()).decode("ascii")


def completion_body(
    prompt: str, max_tokens: int, decoding: Decoding, top_logprobs: int | None
) -> dict:
    """Returns a request for the tokens of an answer, but for the name of the model."""
    body: dict[str, Any] = {
        "prompt_embeds": prompt,
        "max_tokens": max_tokens,
        "temperature": decoding.temperature,
        "top_p": 1.0 if decoding.top_p is None else decoding.top_p,
        "stream": True,
        "return_token_ids": True,
    }
    if decoding.is_drawn:
        body["seed"] = decoding.seed
    if top_logprobs is not None:
        body |= {"logprobs": top_logprobs, "return_tokens_as_token_ids": True}
    return body


async def stream_tokens(
    client: httpx.AsyncClient, replica: Replica, body: dict, end_id: int
) -> AsyncGenerator[Token, None]:
    """Yields the tokens of an answer as they come from a server.

    Args:
        client: asks it.
        replica: the server.
        body: see completion_body.
        end_id: ends an answer.

    Raises:
        Lost: it is not there, or was lost before the answer's end.
        EngineError: it refuses the request.
    """
    url = f"{replica.address}/v1/completions"
    try:
        async with client.stream("POST", url, json=body | {"model": replica.model}) as response:
            if response.status_code != 200:
                said = _said(await response.aread())
                if response.status_code >= 500:
                    raise Lost(said)
                raise EngineError(f"the engine at {replica.address} refuses the prompt: {said}")
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    for token in _tokens(line.removeprefix("data: "), end_id):
                        yield token
                        if token.reason is not None:
                            return
    except httpx.HTTPError as error:
        raise Lost(shown(str(error) or type(error).__name__)) from error
    raise Lost("it ended the answer without saying so")


def _tokens(line: str, end_id: int) -> list[Token]:
    """Returns the tokens in an event of a stream.

    Raises:
        Lost: the event says that the server failed.
    """
    event = json.loads(line)
    if "error" in event or "choices" not in event:
        raise Lost(_said(line.encode()))
    if not event["choices"]:  # only the numbers of tokens
        return []
    choice = event["choices"][0]
    reason, ids = choice.get("finish_reason"), choice.get("token_ids") or []
    if reason not in (None, "stop", "length"):
        raise Lost(f"it ended the answer ({reason})")
    if reason == "stop" and not ids:
        ids = [end_id]
    logprobs = choice.get("logprobs") or {}
    chosen = logprobs.get("token_logprobs") or [None] * len(ids)
    tops = logprobs.get("top_logprobs") or [None] * len(ids)
    last = len(ids) - 1
    return [
        Token(token, reason if place == last else None, logprob, _likeliest(top or {}))
        for place, (token, logprob, top) in enumerate(zip(ids, chosen, tops))
    ]


def _likeliest(logprobs: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """Returns the ids of tokens that vLLM names by them, the likeliest first."""
    named = [(_TOKEN_ID.fullmatch(name), logprob) for name, logprob in logprobs.items()]
    ids = [(int(match[1]), logprob) for match, logprob in named if match is not None]
    return tuple(sorted(ids, key=lambda one: -one[1]))


async def probe(client: httpx.AsyncClient, replica: Replica, width: int) -> str | None:
    """Returns why a server cannot answer prompts of embeddings of a width; None where it can.

    Its model is asked for one token of a prompt of zeros, which only a server that takes
    embeddings of that width gives.
    """
    try:
        version = (await _get(client, f"{replica.address}/version")).get("version", "unknown")
        numbers = re.match(r"(\d+)\.(\d+)", str(version))
        if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            return f"it is vLLM {version}, and {oldest} is the oldest that was tested: update it"
        model = (await _get(client, f"{replica.address}/v1/models"))["data"][0]
        replica.model, replica.max_length = str(model["id"]), int(model["max_model_len"])
        body = completion_body(encoded(torch.zeros(2, width)), 1, Decoding(), None)
        tried = await client.post(
            f"{replica.address}/v1/completions",
            json=body | {"model": replica.model, "stream": False},
            timeout=_PROBE_SECONDS,
        )
        if tried.status_code == 200:
            return None
        return (
            f"it takes no prompts of embeddings of width {width}, so that its model "
            f"{replica.model} is not the LLM of this one, or --enable-prompt-embeds is missing "
            f"({_said(tried.content)})"
        )
    except (httpx.HTTPStatusError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "it does not answer like vLLM"
    except httpx.HTTPError as error:
        return f"it is not there ({shown(str(error) or type(error).__name__)})"


async def is_healthy(client: httpx.AsyncClient, replica: Replica) -> bool:
    """Returns whether a server says that it is well."""
    try:
        answer = await client.get(f"{replica.address}/health", timeout=_PROBE_SECONDS)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


async def _get(client: httpx.AsyncClient, url: str) -> dict:
    response = await client.get(url, timeout=_PROBE_SECONDS)
    response.raise_for_status()
    return response.json()


def _said(body: bytes) -> str:
    """Returns the message in a server's error, in one line."""
    try:
        error = json.loads(body)
        message = error.get("error", error).get("message", error)
    except (ValueError, AttributeError):
        message = body.decode("utf-8", "replace")
    return " ".join(str(message).split())[:200]

"""Requests for chat completions, field by field; what has no effect here is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from llava.budgets import AskedBudget
from llava.errors import quoted
from llava.files import parse_json
from llava.serve.openai.errors import ApiError
from llava.serve.openai.fields import (
    budget,
    items,
    mapping,
    needed,
    number,
    read,
    refuse_unknown,
    switch,
    text,
    whole,
)
from llava.serve.openai.messages import Conversation, read_messages

MOST_STOPS, LONGEST_STOP = 4, 200  # OpenAI's number; characters
MOST_LOGPROBS = 20

_KNOWN = (
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed"),
    *("stop", "stream", "stream_options", "logprobs", "top_logprobs", "accm"),
)
# Fields of OpenAI's interface that this server cannot follow -> the values that ask for nothing.
_WITHOUT_EFFECT: dict[str, tuple] = {
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
# Fields that only say who asks.
_NOTES = ("user", "metadata", "safety_identifier", "prompt_cache_key")


@dataclass(frozen=True)
class AccmFields:
    """The fields under ``accm``: how the image is asked about. None takes the server's setting.

    Attributes:
        visual_token_num, text_token_num, pruner, seed: see Method.
        pruner_options, view_split: see Method; without them, the server's if the request names no
            pruner, else that pruner's own.
        compensation: the server's own, or "none".
        explain: whether the response says what was kept, and why.
    """

    visual_token_num: AskedBudget | None = None
    text_token_num: int | None = None
    pruner: str | None = None
    pruner_options: Mapping[str, object] | None = None
    view_split: str | None = None
    compensation: str | None = None
    seed: int | None = None
    explain: bool = False


@dataclass(frozen=True)
class ChatRequest:
    """A request for a chat completion, checked as far as no model is needed.

    Attributes:
        model: the name of the model that is asked for.
        conversation: what is asked.
        max_tokens: limit of the answer; None takes the server's.
        temperature, top_p: see Decoding.
        stop: texts that end the answer, which they are no part of.
        is_stream: whether the answer comes in pieces.
        has_usage: whether a stream ends with the numbers of tokens.
        top_logprobs: see Request of the engines.
        accm: how the image is asked about, with the seed of the request.
    """

    model: str
    conversation: Conversation
    max_tokens: int | None
    temperature: float
    top_p: float | None
    stop: tuple[str, ...]
    is_stream: bool
    has_usage: bool
    top_logprobs: int | None
    accm: AccmFields


def read_request(body: bytes) -> ChatRequest:
    """Returns the request in the body of a POST.

    Raises:
        ApiError: it is not JSON, a field is wrong, or has a value that is not supported.
    """
    try:
        given = parse_json(body.decode("utf-8"))
    except ValueError as error:
        raise ApiError(f"the request is not valid JSON ({error!s:.200})") from error
    if not isinstance(given, dict):
        raise ApiError("the request is no JSON object")
    refuse_unknown(given, (*_KNOWN, *_WITHOUT_EFFECT, *_NOTES))
    for name, usual in _WITHOUT_EFFECT.items():
        _refuse_unsupported(name, given.get(name), usual)
    top_p = read(given, "top_p", number, 1.0)
    is_stream = read(given, "stream", switch, False)
    return ChatRequest(
        model=needed(given, "model", text),
        conversation=read_messages(needed(given, "messages", items)),
        max_tokens=_read_limit(given),
        temperature=read(given, "temperature", number, 0.0),
        top_p=None if top_p == 1 else top_p,
        stop=_read_stop(given),
        is_stream=is_stream,
        has_usage=_read_stream_options(given, is_stream),
        top_logprobs=_read_logprobs(given),
        accm=_read_accm(given),
    )


def _refuse_unsupported(name: str, value: object, usual: tuple) -> None:
    is_switch = isinstance(value, bool)  # True is 1 for Python
    if value is None or any(value == one and is_switch == isinstance(one, bool) for one in usual):
        return
    rest = f", only {' or '.join(map(quoted, usual))} is" if usual else ""
    raise ApiError(
        f"{name} {quoted(value)} is not supported here{rest}: leave {name} out",
        param=name,
        code="unsupported_value",
    )


def _read_limit(given: Mapping[str, Any]) -> int | None:
    """Returns the limit of the answer under its new or its old name."""
    names = ("max_completion_tokens", "max_tokens")
    found = {name: whole(given[name], name) for name in names if given.get(name) is not None}
    if len(set(found.values())) > 1:
        raise ApiError(
            "max_tokens and max_completion_tokens differ: give one of them", param="max_tokens"
        )
    for name, value in found.items():
        if value < 1:
            raise ApiError(f"{name} is {value}: at least 1", param=name)
        return value
    return None


def _read_stop(given: Mapping[str, Any]) -> tuple[str, ...]:
    value = given.get("stop")
    stops = [value] if isinstance(value, str) else read(given, "stop", items, [])
    if len(stops) > MOST_STOPS:
        raise ApiError(f"stop has {len(stops)} texts: at most {MOST_STOPS}", param="stop")
    for stop in stops:
        if not 0 < len(text(stop, "stop")) <= LONGEST_STOP:
            raise ApiError(
                f"a text of stop has {len(stop)} characters: from 1 to {LONGEST_STOP}", param="stop"
            )
    return tuple(stops)


def _read_stream_options(given: Mapping[str, Any], is_stream: bool) -> bool:
    options: dict[str, Any] = read(given, "stream_options", mapping, {})
    if options and not is_stream:
        raise ApiError("stream_options go with stream: leave them out", param="stream_options")
    refuse_unknown(options, ("include_usage", "include_obfuscation"), "stream_options")
    name = "include_obfuscation"
    _refuse_unsupported(name, options.get(name), (False,))
    return read(options, "include_usage", switch, False)


def _read_logprobs(given: Mapping[str, Any]) -> int | None:
    top = read(given, "top_logprobs", whole, 0)
    if not 0 <= top <= MOST_LOGPROBS:
        raise ApiError(f"top_logprobs is {top}: from 0 to {MOST_LOGPROBS}", param="top_logprobs")
    if read(given, "logprobs", switch, False):
        return top
    if top:
        raise ApiError("top_logprobs go with logprobs: give both, or none", param="top_logprobs")
    return None


def _read_accm(given: Mapping[str, Any]) -> AccmFields:
    values: dict[str, Any] = read(given, "accm", mapping, {})
    refuse_unknown(values, [field.name for field in fields(AccmFields)], "accm")
    seed, own_seed = read(given, "seed", whole, None), read(values, "seed", whole, None)
    if None not in (seed, own_seed) and seed != own_seed:
        raise ApiError("seed and accm.seed differ: give one of them", param="seed")
    return AccmFields(
        visual_token_num=read(values, "visual_token_num", budget, None),
        text_token_num=read(values, "text_token_num", whole, None),
        pruner=read(values, "pruner", text, None),
        pruner_options=read(values, "pruner_options", mapping, None),
        view_split=read(values, "view_split", text, None),
        compensation=read(values, "compensation", text, None),
        seed=seed if own_seed is None else own_seed,
        explain=read(values, "explain", switch, False),
    )

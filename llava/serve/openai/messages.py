"""The messages of a request: a conversation about one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llava.conversation import conversation
from llava.errors import quoted
from llava.serve.openai.errors import ApiError
from llava.serve.openai.fields import items, mapping, needed, read, refuse_unknown, text

MOST_MESSAGES = 200
# Fields that answers of the official client have, without a value.
_OF_ANSWERS = ("audio", "function_call", "tool_calls")
_DETAILS = ("auto", "low", "high")  # the model sees an image in one size


@dataclass(frozen=True)
class Conversation:
    """A question about an image, after others.

    Attributes:
        image_url: of the image, as in the request.
        image_name: of its field in the request.
        question: the last one.
        history: questions and answers before it.
    """

    image_url: str
    image_name: str
    question: str
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Message:
    """A message: who says it, its text, and the URLs of its images by their fields' names."""

    role: str
    text: str
    image_urls: dict[str, str]
    name: str


def read_messages(messages: list) -> Conversation:
    """Returns the conversation in the messages of a request.

    Raises:
        ApiError: they are none that the model can read; says which, and why.
    """
    if len(messages) > MOST_MESSAGES:
        raise ApiError(
            f"there are {len(messages)} messages, and {MOST_MESSAGES} are taken at most",
            param="messages",
        )
    found = [_read_message(each, f"messages[{place}]") for place, each in enumerate(messages)]
    turns = _without_system(found)
    for place, turn in enumerate(turns):
        role = "assistant" if place % 2 else "user"
        if turn.role != role:
            raise ApiError(
                f"{turn.name} is of the role {turn.role}: user and assistant speak in turns, "
                "beginning with user",
                param=turn.name,
            )
    if len(turns) % 2 == 0:
        raise ApiError("the last message must be a question of the role user", param="messages")
    image_name, image_url = _image_url(turns)
    return Conversation(
        image_url=image_url,
        image_name=image_name,
        question=turns[-1].text,
        history=tuple((a.text, b.text) for a, b in zip(turns[:-1:2], turns[1::2])),
    )


def _without_system(messages: list[_Message]) -> list[_Message]:
    """Returns the messages without one that says what the model's own system prompt says."""
    if not messages or messages[0].role not in ("system", "developer"):
        return messages
    if messages[0].text.strip() != conversation().system:
        raise ApiError(
            f"a message of the role {messages[0].role} is not supported: the model was trained "
            "with a system prompt of its own, which is always there; put what you want to say "
            "into the question",
            param=messages[0].name,
            code="unsupported_value",
        )
    return messages[1:]


def _image_url(turns: list[_Message]) -> tuple[str, str]:
    """Returns the name of the field of the only image, and its URL."""
    owners = [turn for turn in turns for _ in turn.image_urls]
    if not owners:
        raise ApiError(
            "there is no image: the first message needs a part of the type image_url",
            param="messages",
        )
    if len(owners) > 1:
        raise ApiError(
            f"there are {len(owners)} images, and this model takes one in a conversation: ask "
            "about each separately",
            param=owners[1].name,
            code="unsupported_value",
        )
    if owners[0] is not turns[0]:
        raise ApiError(
            f"the image is in {owners[0].name}, and the model reads it before the first question: "
            "put it into the first message of the role user, or begin a new conversation",
            param=owners[0].name,
        )
    return next(iter(owners[0].image_urls.items()))


def _read_message(value: object, name: str) -> _Message:
    message = mapping(value, name)
    given = [key for key in message if key not in _OF_ANSWERS or message[key] is not None]
    refuse_unknown(given, ("role", "content", "name", "refusal", "annotations"), name)
    role = needed(message, "role", text)
    if role not in ("system", "developer", "user", "assistant"):
        raise ApiError(f"{name} is of the role {quoted(role)}, which is not supported", param=name)
    content: Any = message.get("content")
    parts = [content] if isinstance(content, str) else items(content, f"{name}.content")
    texts: list[str] = []
    urls: dict[str, str] = {}
    for place, part in enumerate(parts):
        what = f"{name}.content[{place}]"
        if isinstance(part, str) and part is content:
            texts.append(part)
            continue
        part = mapping(part, what)
        kind = needed(part, "type", text)
        if kind == "image_url" and role == "user":
            urls[f"{what}.image_url.url"] = _read_url(part, what)
        elif kind == "text":
            texts.append(needed(part, "text", text))
        else:
            known = "text or image_url" if role == "user" else "text"
            raise ApiError(
                f"{what} is of the type {quoted(kind)}; only {known} is supported here", param=what
            )
    return _Message(role, "\n".join(texts), urls, name)


def _read_url(part: Mapping[str, Any], name: str) -> str:
    image = needed(part, "image_url", mapping)
    refuse_unknown(image, ("url", "detail"), f"{name}.image_url")
    detail = read(image, "detail", text, "auto")
    if detail not in _DETAILS:
        raise ApiError(
            f"{name}.image_url.detail is {quoted(detail)}: one of {', '.join(_DETAILS)}", param=name
        )
    return needed(image, "url", text)

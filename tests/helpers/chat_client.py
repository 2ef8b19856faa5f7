"""A client of the server with OpenAI's interface, as plain HTTP."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import httpx
from PIL import Image

MODEL = "accm-mini"


def data_url(image: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def message(text: str, url: str | None = None) -> dict:
    """A message of the role user, with an image before its text."""
    parts = [] if url is None else [{"type": "image_url", "image_url": {"url": url}}]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def body(question: str, image: bytes, **fields: object) -> dict:
    """A request about an image."""
    messages = [message(question, data_url(image))]
    return {"model": MODEL, "messages": messages, "max_tokens": 16} | fields


class ChatClient:
    """Asks a server.

    Args:
        address: of the server.
        key: of the server.
    """

    PATH = "/v1/chat/completions"

    def __init__(self, address: str, key: str | None = None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.address = address
        self.http = httpx.Client(base_url=address, timeout=60, headers=headers)

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(self, value: dict) -> httpx.Response:
        return self.http.post(self.PATH, json=value)

    def ask(self, question: str, image: bytes, **fields: object) -> dict:
        """The chat completion of a request that succeeds."""
        response = self.post(body(question, image, **fields))
        assert response.status_code == 200, response.text
        return response.json()

    def text(self, question: str, image: bytes, **fields: object) -> str:
        return self.ask(question, image, **fields)["choices"][0]["message"]["content"]

    def refused(self, value: dict, status: int = 400) -> dict:
        """The error of a request that does not succeed, whose message is one line."""
        response = self.post(value)
        assert response.status_code == status, response.text
        error = response.json()["error"]
        assert error["message"].isprintable() and set(error) == {"message", "type", "param", "code"}
        return error

    def stream(self, question: str, image: bytes, **fields: object) -> Iterator[dict]:
        """The pieces of a stream, which must end with [DONE]."""
        value = body(question, image, **fields) | {"stream": True}
        with self.http.stream("POST", self.PATH, json=value) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"] == "text/event-stream"
            lines = [line for line in response.iter_lines() if line]
        assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"
        yield from (json.loads(line.removeprefix("data: ")) for line in lines[:-1])

"""Inputs and requests that no honest visitor sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import cycle, islice

import httpx
import numpy as np

from llava.errors import UserError
from tests.load.bad_images import bad_images
from tests.load.visitor import Visitor, as_file

# Does something to a page; gives its answer, or raises UserError with what it said.
Attempt = Callable[[Visitor], object]

QUESTION = "What color is the star?"
_QUESTIONS = (
    "",
    " \n\t",
    None,
    3,
    ["a", "b"],
    {"path": "/etc/passwd"},
    "a \ud800",
    "\0\1\2",
    "x" * 1_001,
    "why " * 240,
    "x" * 900_000,
    "x" * 5_000_000,
    "<image>",
    "{{value}} ${alert(1)}",
    "<script>alert(1)</script>",
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{PILE OF POO}" * 50,
)
_BUDGETS = (0, -1, 10**30, 1.5, "9", None, True, float("nan"), float("inf"), [9], {"value": 9})
_PATHS = (
    "/etc/passwd",
    "../../../../etc/passwd",
    "/proc/self/environ",
    "README.md",
    "http://127.0.0.1:1/x.png",
    "file:///etc/passwd",
    "x" * 5_000,
    "a\0b",
    "",
    7,
)
_ADDRESSES = (
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=%2fetc%2fpasswd",
    "/gradio_api/file=README.md",
    "/gradio_api/file=http://127.0.0.1:1/x",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=/proc/self/environ",
    "/gradio_api/file/etc/passwd",
    "/file=/etc/passwd",
    "/static/..%2f..%2f..%2fetc/passwd",
    "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/svelte/..%5c..%5cetc/passwd",
    "/gradio_api/proxy=http://127.0.0.1:1",
    "/gradio_api/stream/a/b/1/playlist.m3u8",
    "/monitoring",
    "/gradio_api/runs",
)
_BODIES = (
    b"",
    b"{",
    b"[" * 100_000,
    b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"data": []}',
    b'{"data": {"a": 1}}',
    b'{"data": [null]}',
    b'{"data": [null, null, null, null, null]}',
    b"\xff\xfe",
    b"x" * (3 << 20),
)


def attempts(count: int, upload: dict, seed: int) -> Iterator[tuple[str, Attempt]]:
    """Yields attempts of every kind in turn, each with its name.

    Args:
        count: number of attempts.
        upload: a good image, uploaded already.
        seed: of the random ones.
    """
    generator = np.random.default_rng(seed)
    kinds = list(_uploads(generator)) + list(_inputs(upload)) + list(_requests())
    order = generator.permutation(len(kinds))
    yield from islice(cycle(kinds[place] for place in order), count)


def outcome(attempt: Attempt, visitor: Visitor) -> tuple[bool, str]:
    """Returns whether an attempt got an answer or a message, and which."""
    try:
        return True, f"answered: {attempt(visitor)}"
    except UserError as error:
        return not str(error).startswith("5") and "Traceback" not in str(error), str(error)
    except httpx.HTTPError as error:
        return False, repr(error)


def _uploads(generator: np.random.Generator) -> Iterator[tuple[str, Attempt]]:
    for kind, make in bad_images().items():
        for name in ("image.png", "../../etc/x.jpg"):
            yield (
                f"{kind} as {name}",
                lambda visitor, make=make, name=name: visitor.ask(
                    visitor.upload(make(generator), name), QUESTION, 9
                )["full"]["text"],
            )


def _inputs(upload: dict) -> Iterator[tuple[str, Attempt]]:
    for question in _QUESTIONS:
        yield f"question {question!r:.40}", _asks(upload, question, 9)
    for budget in _BUDGETS:
        yield f"budget {budget!r}", _asks(upload, QUESTION, budget)
    for path in _PATHS:
        yield f"image at {path!r:.40}", _asks(as_file(path), QUESTION, 9)
    for image in (None, "x", [], {}, [upload, upload], {"path": {"path": "/etc/passwd"}}):
        yield f"image {image!r:.40}", _asks(image, QUESTION, 9)


def _asks(*inputs: object) -> Attempt:
    return lambda visitor: visitor.ask(*inputs)["full"]["text"]


def _requests() -> Iterator[tuple[str, Attempt]]:
    for address in _ADDRESSES:
        yield address, lambda visitor, address=address: _get(visitor, address)
    for body in _BODIES:
        yield f"body {body!r:.40}", lambda visitor, body=body: _post(visitor, body)


def _get(visitor: Visitor, address: str) -> None:
    """Tries to read a file that must not be read.

    Raises:
        UserError: the page refuses it.
        httpx.HTTPError: it does not.
    """
    response = visitor.http.get(address)
    if response.is_success:
        raise httpx.HTTPError(f"{address} was read")
    raise UserError(f"{response.status_code}: {response.text[:80]}")


def _post(visitor: Visitor, body: bytes) -> str:
    headers = {"Content-Type": "application/json"}
    response = visitor.http.post("/gradio_api/call/ask", content=body, headers=headers)
    if not response.is_success:
        raise UserError(f"{response.status_code}: {response.text[:80]}")
    event = response.json()["event_id"]
    text = visitor.http.get(f"/gradio_api/call/ask/{event}").text
    if "event: error" not in text:
        raise httpx.HTTPError(f"{body[:40]!r} was answered with {text[:80]}")
    raise UserError(json.dumps(text)[:200])

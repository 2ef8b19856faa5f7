"""Measures a running server with OpenAI's interface: ``llava.eval.bench --serve URL``."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from llava.arguments import flag, list_flag
from llava.budgets import EVERY, AskedBudget
from llava.errors import UserError, shown
from llava.eval.bench.arguments import check_positive
from llava.files import make_folder, write_json, write_text
from llava.markdown import markdown_table

_SHORT = "What is in the middle of the image?\nAnswer the question using a single word or phrase."
_LONG = "Describe the image in detail."
_FULL = 0  # a budget of all tokens
_SIDE = 336  # pixels of an image
_SECONDS = 600.0


@dataclass
class ServingArguments:
    """Flags of bench --serve."""

    serve: str = flag("Address of a running server, as http://127.0.0.1:8000.")
    key_variable: Optional[str] = flag("Environment variable with the server's key.")
    concurrent: list[int] = list_flag("Clients at once, in turn.", (1, 4, 16, 64))
    budgets: list[AskedBudget] = list_flag(
        "Visual tokens that are kept: numbers, shares of all (1/9, 11%), or all, as 0 is too.",
        (36, _FULL),
    )
    answer_lengths: list[int] = list_flag(
        "Limits of answers: up to 16 a word is asked for, and above a description.", (8, 128)
    )
    requests: int = flag("Requests of each client.", 8)
    warm_up: int = flag("Requests before them that do not count.", 4)
    seed: int = flag("Of the images.", 0)
    output: str = flag("Folder for serving.json and serving.md.", "outputs/bench")


@dataclass(frozen=True)
class Answered:
    """One request, by the client's clock.

    Attributes:
        seconds: from the request to the end of the answer.
        first: from the request to the first token.
        tokens: of the answer.
        error: why there is no answer; None where there is one.
    """

    seconds: float
    first: float
    tokens: int
    error: str | None = None


def measure_server(args: ServingArguments) -> int:
    """Measures, prints the table, writes the files; the status tells whether requests failed."""
    check_positive(
        {"requests": args.requests}
        | {"concurrent": min(args.concurrent, default=0)}
        | {"answer-lengths": min(args.answer_lengths, default=0)}
    )
    below = [one for one in args.budgets if isinstance(one, int) and one < 0]
    if args.warm_up < 0 or below or not args.budgets:
        raise UserError("--warm-up and --budgets must not be negative, and name a budget")
    headers = {}
    if args.key_variable is not None:
        if not (key := os.environ.get(args.key_variable, "")):
            raise UserError(f"--key-variable {args.key_variable}: that variable has no key")
        headers = {"Authorization": f"Bearer {key}"}
    folder = Path(args.output)
    make_folder(folder)
    model, rows = asyncio.run(_measure_all(args, headers))
    text = _table(rows)
    print(text)
    found = {"settings": asdict(args), "model": model, "cases": rows}
    write_json(folder / "serving.json", found)
    write_text(folder / "serving.md", text + "\n")
    failed = sum(row["failed"] for row in rows)
    if failed:
        print(f"{failed} requests failed; the first says: {_first_error(rows)}", file=sys.stderr)
    return 1 if failed else 0


async def _measure_all(args: ServingArguments, headers: dict[str, str]) -> tuple[str, list[dict]]:
    """Returns the name of the server's model, and what each case took."""
    rows = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=args.serve, headers=headers, timeout=_SECONDS, limits=limits, trust_env=False
    ) as client:
        model = await _model_of(client)
        cases = list(_cases(args))
        for length, budget, clients in tqdm(cases, "measuring", unit="case", leave=False):
            bodies = _bodies(model, length, budget, args.seed)
            for _ in range(args.warm_up):
                await _ask(client, next(bodies))
            rows.append(
                {"answer_length": length, "budget": budget, "concurrent": clients}
                | await _measure(client, bodies, clients, args.requests)
            )
    return model, rows


def _cases(args: ServingArguments) -> Iterator[tuple[int, AskedBudget, int]]:
    for length in args.answer_lengths:
        for budget in args.budgets:
            for clients in args.concurrent:
                yield length, budget, clients


async def _model_of(client: httpx.AsyncClient) -> str:
    """Returns the name of a server's model.

    Raises:
        UserError: there is no such server.
    """
    try:
        response = await client.get("/v1/models")
        if response.status_code == 401:
            raise UserError("the server wants a key: name the variable that has it: --key-variable")
        response.raise_for_status()
        return response.json()["data"][0]["id"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, IndexError) as error:
        said = shown(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise UserError(
            f"there is no server with OpenAI's interface at {client.base_url} ({said}): start one "
            "with accm serve"
        ) from error


def _bodies(model: str, length: int, budget: AskedBudget, seed: int) -> Iterator[dict]:
    """Yields requests without end, each with an image of its own."""
    generator = np.random.default_rng(seed)
    is_full = budget in (_FULL, EVERY)
    accm: dict[str, Any] = {"pruner": "none"} if is_full else {"visual_token_num": budget}
    while True:
        patches = generator.integers(0, 256, (8, 8, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(patches).resize((_SIDE, _SIDE)).save(file, "JPEG")
        url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        question = _SHORT if length <= 16 else _LONG
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": question},
        ]
        yield {
            "model": model,
            "messages": [{"role": "user", "content": parts}],
            "max_tokens": length,
            "stream": True,
            "stream_options": {"include_usage": True},
            "accm": accm,
        }


async def _measure(
    client: httpx.AsyncClient, bodies: Iterator[dict], clients: int, requests: int
) -> dict:
    """Lets clients ask at once, each its requests one after the other."""
    shares = [[next(bodies) for _ in range(requests)] for _ in range(clients)]

    async def one(share: list[dict]) -> list[Answered]:
        return [await _ask(client, body) for body in share]

    start = time.perf_counter()
    answered = [each for share in await asyncio.gather(*map(one, shares)) for each in share]
    seconds = time.perf_counter() - start
    good = [each for each in answered if each.error is None]
    steps = [(each.seconds - each.first) / (each.tokens - 1) for each in good if each.tokens > 1]
    return {
        "requests": len(answered),
        "failed": len(answered) - len(good),
        "error": next((each.error for each in answered if each.error), None),
        "requests_per_second": len(good) / seconds,
        "tokens_per_second": sum(each.tokens for each in good) / seconds,
        "tokens": statistics.mean(each.tokens for each in good) if good else 0.0,
        "seconds": _percentiles([each.seconds for each in good]),
        "first_token": _percentiles([each.first for each in good]),
        "per_token": _percentiles(steps),
    }


async def _ask(client: httpx.AsyncClient, body: dict) -> Answered:
    start = time.perf_counter()
    first, tokens = None, 0
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                said = (await response.aread()).decode("utf-8", "replace")
                return Answered(0, 0, 0, f"{response.status_code}: {said[:200]}")
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                first = first or time.perf_counter()
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    return Answered(0, 0, 0, str(event["error"].get("message")))
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    except httpx.HTTPError as error:
        return Answered(0, 0, 0, str(error) or type(error).__name__)
    end = time.perf_counter()
    return Answered(end - start, (first or end) - start, tokens)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """Returns the median and the 95th percentile."""
    if not values:
        return {}
    return {"p50": float(np.percentile(values, 50)), "p95": float(np.percentile(values, 95))}


def _table(rows: Sequence[dict]) -> str:
    heads = ["answers up to", "K", "at once", "requests/s", "tokens/s", "tokens an answer"]
    heads += ["ms p50", "p95", "first token p50", "p95", "ms a token p50", "p95", "failed"]
    cells = []
    for row in rows:
        times = [
            f"{1000 * row[name][p]:,.0f}" if row[name] else ""
            for name in ("seconds", "first_token", "per_token")
            for p in ("p50", "p95")
        ]
        budget = EVERY if row["budget"] == _FULL else str(row["budget"])
        rates = [f"{row[name]:,.1f}" for name in ("requests_per_second", "tokens_per_second")]
        numbers = [str(row["concurrent"]), *rates, f"{row['tokens']:.1f}", *times]
        cells.append([str(row["answer_length"]), budget, *numbers, str(row["failed"])])
    return "\n".join(markdown_table(heads, cells, texts=2))


def _first_error(rows: Sequence[dict]) -> str:
    return shown(next(row["error"] for row in rows if row["error"]))

"""Many clients of the server with OpenAI's interface at once, each with questions of its own.

python -m tests.load.api_crowd --address http://127.0.0.1:8000
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import numpy as np
from tqdm import tqdm

from llava.arguments import ModelArguments, flag
from llava.mm_utils import load_image
from llava.model.builder import load_from_arguments
from llava.model.sample import Sample
from llava.utils.cli import command
from tests.helpers.chat_client import body
from tests.load.crowd import Case, make_cases


@dataclass
class CrowdArguments(ModelArguments):
    """Flags of the command."""

    model_path: str = flag("The model of the server.", "checkpoints/accm-mini")
    device: str = flag("Of the model that checks the answers.", "cpu")
    address: str = flag("Of the server.")
    clients: int = flag("At once.", 32)
    requests: int = flag("Of each client.", 20)
    alone: int = flag("Requests that are asked one after the other, to compare with.", 60)
    seed: int = flag("Of the questions.", 0)


@dataclass(frozen=True)
class Got:
    """An answer, and the seconds until its first token and its end."""

    text: str
    first: float
    seconds: float


def ask(address: str, cases: Sequence[Case]) -> list[Got | str]:
    """Asks one question after the other, as a stream; an error is a text."""
    found: list[Got | str] = []
    with httpx.Client(base_url=address, timeout=300, trust_env=False) as client:
        for case in cases:
            start = time.perf_counter()
            accm = {"visual_token_num": case.visual_token_num}
            value = body(case.question, case.image, stream=True, accm=accm)
            first, lines = 0.0, []
            try:
                with client.stream("POST", "/v1/chat/completions", json=value) as response:
                    for line in response.iter_lines():
                        first = first or time.perf_counter() - start
                        lines.append(line)
                    status = response.status_code
            except httpx.HTTPError as error:
                found.append(repr(error))
                continue
            if status != 200 or "data: [DONE]" not in lines:
                found.append(f"{status}: {lines[:2]}")
                continue
            found.append(Got(_text(lines), first, time.perf_counter() - start))
    return found


def _text(lines: Sequence[str]) -> str:
    import json

    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)


def visit(args: CrowdArguments) -> int:
    """Prints what came back, and in what time."""
    model = load_from_arguments(args)
    cases = make_cases(args.clients * args.requests, model.count_tokens(), args.seed)
    ask(args.address, cases[:3])
    start = time.perf_counter()
    ask(args.address, cases[: args.alone])
    alone = args.alone / (time.perf_counter() - start)
    with ThreadPoolExecutor(args.clients) as pool:
        start = time.perf_counter()
        shares = [cases[place :: args.clients] for place in range(args.clients)]
        found = [
            each for share in pool.map(lambda s: ask(args.address, s), shares) for each in share
        ]
        together = len(cases) / (time.perf_counter() - start)
    asked = [case for share in shares for case in share]
    lost = [each for each in found if isinstance(each, str)]
    wrong = 0
    for case, each in zip(tqdm(asked, "checking", leave=False), found):
        sample = Sample(
            load_image(case.image),
            case.question,
            visual_token_num=case.visual_token_num,
            max_new_tokens=16,
        )
        wrong += not isinstance(each, str) and model.answer([sample])[0].text != each.text
    print(f"{len(cases)} requests of {args.clients} clients: {len(lost)} lost, {wrong} wrong")
    print(
        f"{together:.1f} a second; one after the other {alone:.1f} ({together / alone:.2f} times)"
    )
    good = [each for each in found if isinstance(each, Got)]
    for name in ("seconds", "first"):
        p50, p95 = np.percentile([getattr(each, name) for each in good], (50, 95))
        print(f"{name}: p50 {p50:.3f}, p95 {p95:.3f}")
    for each in lost[:3]:
        print(each)
    return 1 if lost or wrong else 0


main = command(CrowdArguments, visit, "tests.load.api_crowd", __doc__ or "")

if __name__ == "__main__":
    sys.exit(main())

"""Tests the web page under load: many visitors at once, and bad ones: ``python -m tests.load``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import mean

import numpy as np
from tqdm import tqdm

from llava.arguments import ModelArguments, flag
from llava.errors import UserError
from llava.model.builder import load_from_arguments
from llava.model.llava_arch import LlavaAccm
from llava.serve.arguments import TryArguments
from llava.utils.cli import run_command
from tests.load.crowd import answered_alone, is_same, make_cases, visit
from tests.load.malformed import attempts, outcome
from tests.load.process import Served, served
from tests.load.table import Row, print_rows
from tests.load.visitor import Visitor


@dataclass
class LoadArguments(TryArguments):
    """Flags of the command."""

    visitors: int = flag("Visitors at once.", 16)
    questions: int = flag("Questions of each.", 20)
    requests: int = flag("Questions over which memory is watched.", 1000)
    malformed: int = flag("Malformed uploads and inputs.", 300)
    seed: int = flag("Seed of scenes and questions.", 0)


def load(args: LoadArguments) -> int:
    """Serves the page, visits it, and prints a table."""
    check_numbers(args)
    model = load_from_arguments(args)
    rows: list[Row] = []
    with served(page_flags(args)) as page:
        rows += crowd_rows(page, model, args)
        rows += memory_rows(page, model, args)
        rows += malformed_rows(page, model, args)
    return print_rows(rows)


def check_numbers(args: LoadArguments) -> None:
    """Refuses numbers below 1.

    Raises:
        UserError: which one is too small.
    """
    for name in ("visitors", "questions", "requests", "malformed"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} is {getattr(args, name)}; it must be at least 1")


def page_flags(args: LoadArguments) -> list[str]:
    """Returns flags that serve the model of ``args``, with room for all visitors in the queue."""
    flags = ["--queue-limit", str(args.visitors), "--model-path", args.model_path]
    usual = ModelArguments()
    for each in fields(ModelArguments):
        value = getattr(args, each.name)
        if each.name != "model_path" and value != getattr(usual, each.name):
            flags += [f"--{each.name}", str(value)]
    return flags


def crowd_rows(page: Served, model: LlavaAccm, args: LoadArguments) -> list[Row]:
    """Lets many visitors ask at once; counts answers that are lost or another visitor's."""
    cases = make_cases(args.visitors * args.questions, model.tower.num_patches, args.seed)
    expected = [
        answered_alone(model, case) for case in tqdm(cases, desc="asked alone", leave=False)
    ]
    outcomes = visit(page.address, cases, args.visitors, "asked at once")
    lost = [one.error for one in outcomes if one.record is None]
    mixed = [
        one
        for one, right in zip(outcomes, expected)
        if one.record and not is_same(one.record, right)
    ]
    for error in lost[:5]:
        tqdm.write(f"lost: {error}", file=sys.stderr)
    seconds = [one.seconds for one in outcomes]
    return [
        Row("questions", f"{len(cases)} of {args.visitors} visitors at once"),
        Row("lost", str(len(lost)), not lost),
        Row("other than asked alone", str(len(mixed)), not mixed),
        Row("seconds, median", f"{np.percentile(seconds, 50):.2f}"),
        Row("seconds, 95%", f"{np.percentile(seconds, 95):.2f}"),
    ]


def memory_rows(page: Served, model: LlavaAccm, args: LoadArguments) -> list[Row]:
    """Watches the server's memory over many questions."""
    cases = make_cases(args.requests, model.tower.num_patches, args.seed + 1)
    seen: list[float] = []
    outcomes = visit(
        page.address, cases, args.visitors, "memory", lambda: seen.append(page.memory())
    )
    lost = sum(one.record is None for one in outcomes)
    first, last = thirds(seen)
    return [
        Row("questions over which memory is watched", str(len(cases))),
        Row("lost of them", str(lost), not lost),
        Row("MB, mean of the first third", f"{first:.0f}"),
        Row("MB, mean of the last third", f"{last:.0f}", last < 1.05 * first),
        Row("MB of uploads on disk, kept an hour", f"{page.disk():.1f}"),
    ]


def malformed_rows(page: Served, model: LlavaAccm, args: LoadArguments) -> list[Row]:
    """Sends bad uploads and inputs; counts those that get neither an answer nor a message."""
    (case,) = make_cases(1, model.tower.num_patches, args.seed + 2)
    seen, bad = [], []
    with Visitor(page.address) as visitor:
        upload = visitor.upload(case.image)
        tried = list(attempts(args.malformed, upload, args.seed))
        for kind, attempt in tqdm(tried, desc="malformed", leave=False):
            is_good, said = outcome(attempt, visitor)
            seen.append(page.memory())
            if not is_good:
                bad.append(f"{kind}: {said:.200}")
        record = visitor.ask(upload, case.question, case.visual_token_num)
    for one in bad:
        tqdm.write(f"without a message: {one}", file=sys.stderr)
    is_right = is_same(record, answered_alone(model, case))
    first, last = thirds(seen)
    return [
        Row("malformed uploads and inputs", str(len(tried))),
        Row("without answer or message", str(len(bad)), not bad),
        Row("still right afterwards", "yes" if is_right else "no", is_right),
        Row("MB, mean of the first third of them", f"{first:.0f}"),
        Row("MB, mean of the last third of them", f"{last:.0f}", last < 1.05 * first),
    ]


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """Returns the means of the first and the last third."""
    length = max(1, len(values) // 3)
    return mean(values[:length]), mean(values[-length:])


def main(argv: list[str] | None = None) -> int:
    """Runs the command."""
    return run_command(LoadArguments, load, "tests.load", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())

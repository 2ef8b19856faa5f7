"""Measures what captions give back: ``python -m llava.mini.measure --model-path DIR ...``.

Each question of the mini benchmarks is answered with all tokens, without an image, with few tokens,
and with these and each candidate caption or a true one. The captions are written once, so that
every way to choose among them is compared on the same answers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from tqdm import tqdm

from llava.errors import UserError
from llava.eval.benchmarks.registry import BENCHMARKS
from llava.eval.command import run_command
from llava.files import check_target, write_json, write_text
from llava.mini.measuring.figures import Result, figures, to_json
from llava.mini.measuring.passes import ask_all
from llava.mini.measuring.questions import Asked, read_asked
from llava.mini.measuring.scores import choose, score_answers
from llava.mini.measuring.table import tables
from llava.model.builder import ModelArguments, flag, load_from_arguments
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import DEFAULT_SEED


@dataclass
class MeasureArguments(ModelArguments):
    """Flags of the command."""

    data_root: Optional[str] = flag("Folder of the benchmarks, as llava.mini.make_data writes it.")
    benchmarks: list[str] = field(
        default_factory=lambda: list(BENCHMARKS), metadata={"help": "Which. Default: all."}
    )
    budget: int = flag("Visual tokens that pruning leaves.", 9)
    text_token_num: Optional[int] = flag(
        "Tokens that the question picks. Default: the paper's number for this budget."
    )
    seed: int = flag("Seed of the one random draw of each question.", DEFAULT_SEED)
    batch_size: int = flag("Questions at once.", 64)
    limit: Optional[int] = flag("Questions of each benchmark, for a quick look. Default: all.")
    output: Optional[str] = flag("Where all numbers go, as JSON.")
    questions_file: Optional[str] = flag(
        "Where each question goes, JSON lines: answers, scores, captions, kept patches."
    )


def measure(args: MeasureArguments) -> int:
    """Asks, scores, prints the tables and writes the numbers.

    Raises:
        UserError: a flag that makes no sense, or a model or benchmarks that are not right.
    """
    _check(args)
    start = time.perf_counter()
    root = Path(args.data_root)
    asked = read_asked(root, args.benchmarks, args.limit)
    model = load_from_arguments(args)
    results = [
        result
        for benchmark in dict.fromkeys(args.benchmarks)
        for result in _results(model, args, [one for one in asked if one.benchmark == benchmark])
    ]
    found = figures(results, model.tower.num_patches)
    if args.questions_file is not None:
        lines = [json.dumps(_line(result), ensure_ascii=False) for result in results]
        write_text(Path(args.questions_file), "\n".join(lines) + "\n")
    if args.output is not None:
        settings = {
            "model_path": args.model_path,
            "data_root": args.data_root,
            "budget": args.budget,
            "num_patches": model.tower.num_patches,
            "text_selection": model.text_selection,
            "seed": args.seed,
            "limit": args.limit,
            "seconds": round(time.perf_counter() - start, 1),
        }
        write_json(Path(args.output), {"settings": settings, **to_json(found)})
    print(tables(found, args.budget), end="")
    return 0


def _check(args: MeasureArguments) -> None:
    if args.model_path is None or args.data_root is None:
        raise UserError("say which model and which benchmarks: --model-path and --data-root FOLDER")
    if not args.compensation:
        raise UserError("without captions there is nothing to measure: leave --no-compensation out")
    unknown = [name for name in args.benchmarks if name not in BENCHMARKS]
    if unknown or not args.benchmarks:
        raise UserError(f"--benchmarks {' '.join(unknown)}: name some of {', '.join(BENCHMARKS)}")
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit {args.limit}: say 1 or more")
    for target in (args.output, args.questions_file):
        if target is not None:
            check_target(Path(target))


def _results(model: LlavaAccm, args: MeasureArguments, asked: Sequence[Asked]) -> list[Result]:
    """The questions of one benchmark, asked and scored."""
    name = asked[0].benchmark
    answers = ask_all(model, asked, args.batch_size, args.budget, args.text_token_num, args.seed)
    measured = list(tqdm(answers, name, len(asked), unit="question", smoothing=0))
    scores = score_answers(Path(args.data_root), name, measured, args.limit is not None)
    return [Result(one, choose(row, one.chosen)) for one, row in zip(measured, scores)]


def _line(result: Result) -> dict:
    """A question for the file of questions."""
    measured, asked = result.measured, result.measured.asked
    return {
        "benchmark": asked.benchmark,
        "key": asked.question.key,
        "kind": asked.kind,
        "subject": asked.subject,
        "prompt": asked.question.prompt,
        "true_caption": asked.caption,
        "captions": measured.captions,
        "chosen": measured.chosen,
        "answers": measured.texts,
        "scores": result.scores,
        "kept": {rule: asdict(kept) for rule, kept in measured.kept.items()},
    }


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_command(
        MeasureArguments, measure, "llava.mini.measure", __doc__.splitlines()[0], argv
    )


if __name__ == "__main__":
    sys.exit(main())

"""Measures what captions give back: ``python -m llava.mini.measure --model-path DIR ...``.

Each question of the mini benchmarks is answered with all tokens, without an image, with few tokens,
and with these and each candidate caption or a true one. The captions are generated once, so that
all ways to choose among them are compared on the same answers.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from llava.arguments import flag
from llava.budgets import AskedBudget
from llava.files import check_target, write_json, write_text
from llava.method import Method
from llava.mini.measuring.arguments import MeasuringArguments
from llava.mini.measuring.questions import read_asked
from llava.utils.cli import command

if TYPE_CHECKING:
    from llava.mini.measuring.metrics import Result


@dataclass
class MeasureArguments(MeasuringArguments):
    """Flags of the command."""

    budget: AskedBudget = flag(
        "Visual tokens that pruning leaves: a number, or a share of all (1/9, 11%).", 9
    )
    text_token_num: Optional[int] = flag(
        "Tokens that the question picks. Default: the paper's number for this budget."
    )
    questions_file: Optional[str] = flag(
        "Where each question goes, JSON lines: answers, scores, captions, kept patches."
    )


def measure(args: MeasureArguments) -> int:
    """Asks, scores, prints the tables and writes the numbers.

    Raises:
        UserError: a flag, the model or a benchmark is not valid.
    """
    args.check()
    if args.questions_file is not None:
        check_target(Path(args.questions_file))
    from llava.mini.measuring.metrics import Result, figures, to_json
    from llava.mini.measuring.scores import ask_and_score, choose
    from llava.mini.measuring.table import tables
    from llava.model.builder import load_from_arguments
    from llava.train.pruning import check_budgets

    start = time.perf_counter()
    root = Path(args.data_root)
    asked = read_asked(root, args.benchmarks, args.limit)
    model = load_from_arguments(args)
    (budget,) = check_budgets([args.budget], model.count_tokens(), "--budget")
    method = Method(budget, args.text_token_num, args.seed)
    results = [
        Result(one, choose(scores, one.chosen))
        for name in dict.fromkeys(args.benchmarks)
        for one, scores in ask_and_score(
            model, args, [one for one in asked if one.benchmark == name], method
        )
    ]
    found = figures(results, model.count_tokens())
    if args.questions_file is not None:
        lines = [json.dumps(_line(result), ensure_ascii=False) for result in results]
        write_text(Path(args.questions_file), "\n".join(lines) + "\n")
    if args.output is not None:
        settings = {
            "model_path": args.model_path,
            "data_root": args.data_root,
            "budget": budget,
            "num_patches": model.count_tokens(),
            "text_selection": model.text_selection,
            "seed": args.seed,
            "limit": args.limit,
            "seconds": round(time.perf_counter() - start, 1),
        }
        write_json(Path(args.output), {"settings": settings, **to_json(found)})
    print(tables(found, budget), end="")
    return 0


def _line(result: Result) -> dict:
    """Returns a question's record for the file of questions."""
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


main = command(MeasureArguments, measure, "llava.mini.measure", __doc__)

if __name__ == "__main__":
    sys.exit(main())

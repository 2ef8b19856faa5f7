"""Captions at several budgets: what the LLM makes of them, in shares of the full score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from llava.errors import UserError
from llava.eval.benchmarks.registry import BENCHMARKS
from llava.eval.report.statistics import SEED, Sampled, average, difference, ratio
from llava.files import write_json
from llava.markdown import markdown_table
from llava.method import Method
from llava.mini.measuring.arguments import ByBudgetArguments
from llava.mini.measuring.metrics import sampled_by_image, to_json
from llava.mini.measuring.passes import CANDIDATES, FALSE, FULL, PRUNED, TRUE
from llava.mini.measuring.questions import Asked, read_asked
from llava.mini.measuring.scores import ACCM, BEST, FIRST, ask_and_score, choose
from llava.mini.measuring.table import cell
from llava.model.builder import load_from_arguments
from llava.model.llava_arch import LlavaAccm
from llava.train.pruning import check_budgets

_SHOWN = (PRUNED, ACCM, FIRST, BEST, TRUE, FALSE)

Scores = dict[tuple[int, str], float]  # of one question, by budget and the LLM's input


def measure_by_budget(args: ByBudgetArguments) -> int:
    """Asks at each budget, scores, and prints and writes shares of the score with all tokens.

    Raises:
        UserError: a flag, the model or a benchmark is not valid.
    """
    args.check()
    asked = read_asked(Path(args.data_root), args.benchmarks, args.limit)
    model = load_from_arguments(args)
    budgets = sorted(set(check_budgets(args.budgets, model.count_tokens())))
    groups = [
        [one for one in asked if one.benchmark == name] for name in dict.fromkeys(args.benchmarks)
    ]
    shares = average_shares([(group, _scores(model, args, budgets, group)) for group in groups])
    if args.output is not None:
        settings = {
            "model_path": args.model_path,
            "data_root": args.data_root,
            "budgets": budgets,
            "seed": args.seed,
            "limit": args.limit,
        }
        write_json(Path(args.output), {"settings": settings, **_numbers(shares, budgets)})
    print(_table(shares, budgets))
    return 0


def _scores(
    model: LlavaAccm, args: ByBudgetArguments, budgets: Sequence[int], asked: Sequence[Asked]
) -> list[Scores]:
    """Returns the scores of one benchmark's questions, in the order of the questions."""
    rows: dict[str, Scores] = {one.question.key: {} for one in asked}
    conditions = [PRUNED, *CANDIDATES, *((TRUE, FALSE) if args.true_and_false else ())]
    for budget in budgets:
        wanted = [FULL, *conditions] if budget == budgets[0] else conditions
        for one, row in ask_and_score(model, args, asked, Method(budget, seed=args.seed), wanted):
            read = choose(row, one.chosen)
            rows[one.asked.question.key] |= {(budget, name): read[name] for name in read}
    return list(rows.values())


def average_shares(
    groups: Sequence[tuple[Sequence[Asked], Sequence[Scores]]],
) -> dict[tuple[int, str], Sampled]:
    """Returns each score as a share of the score with all tokens, averaged over benchmarks.

    Args:
        groups: the questions of each benchmark, and their scores; one of the scores is FULL's.
    """
    of_benchmarks = []
    for asked, scores in groups:
        seed = (SEED, BENCHMARKS.index(asked[0].benchmark))
        means = sampled_by_image([one.question.image for one in asked], scores, seed)
        full = next(mean for (_, read), mean in means.items() if read == FULL)
        of_benchmarks.append({key: ratio(mean, full) for key, mean in means.items()})
    # A benchmark of which nothing is answered with all tokens has no shares.
    able = [
        {key: share for key, share in shares.items() if share is not None}
        for shares in of_benchmarks
        if None not in shares.values()
    ]
    if not able:
        raise UserError("the model answers nothing with all tokens: there is no share of that")
    return {key: average([shares[key] for shares in able]) for key in able[0]}


def steps(
    shares: Mapping[tuple[int, str], Sampled], budgets: Sequence[int], read: str
) -> list[Sampled]:
    """Returns what each budget gains over the one before it, and all tokens over the last.

    Args:
        shares: see average_shares.
        budgets: rising.
        read: the LLM's input.
    """
    rising = [shares[budget, read] for budget in budgets]
    rising.append(next(share for (_, what), share in shares.items() if what == FULL))
    return [difference(after, before) for before, after in zip(rising, rising[1:])]


def _numbers(shares: Mapping[tuple[int, str], Sampled], budgets: Sequence[int]) -> dict:
    """Returns the numbers for the file."""
    reads = [read for read in _SHOWN if (budgets[0], read) in shares]
    return {
        "shares": {
            str(budget): {read: to_json(shares[budget, read]) for read in reads}
            for budget in budgets
        },
        "accm - pruned": {
            str(budget): to_json(difference(shares[budget, ACCM], shares[budget, PRUNED]))
            for budget in budgets
        },
        "steps": {
            read: {
                str(budget): to_json(step)
                for budget, step in zip(budgets, steps(shares, budgets, read))
            }
            for read in (PRUNED, ACCM)
        },
    }


def _table(shares: Mapping[tuple[int, str], Sampled], budgets: Sequence[int]) -> str:
    """Returns the numbers as Markdown.

    A difference is marked if its whole interval is below 0.
    """
    reads = [read for read in _SHOWN if (budgets[0], read) in shares]
    step = {read: steps(shares, budgets, read) for read in (PRUNED, ACCM)}
    headings = ["Tokens", *reads, "accm - pruned", "pruned: next - this", "accm: next - this"]
    rows = []
    for place, budget in enumerate(budgets):
        differences = [difference(shares[budget, ACCM], shares[budget, PRUNED])]
        differences += [step[read][place] for read in (PRUNED, ACCM)]
        row = [str(budget), *(cell(shares[budget, read]) for read in reads)]
        rows.append([*row, *(cell(d) + (" **costs**" if d.high < 0 else "") for d in differences)])
    lines = markdown_table(headings, rows, texts=1)
    note = "Means over benchmarks of the share of the score with all tokens; 95% paired bootstrap."
    return "\n".join([note, "", *lines])

"""Answers and scores benchmarks in many ways: ``python -m llava.eval.sweep --model-path ...``.

One process loads the model once for all (benchmark, method, budget). Each writes the same files as
llava.eval.answer and llava.eval.score: OUTPUT_DIR/BENCHMARK/MODEL-METHOD-K.jsonl (with --limit N
MODEL-METHOD-K-limitN.jsonl), with its journal and its scores beside it. After an interruption, the
same command continues where it stopped.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from llava.arguments import CAPTIONS, NOTHING, AskArguments, flag, list_flag
from llava.errors import UserError
from llava.eval.answer import LIMIT_HELP, read_run
from llava.eval.benchmarks.registry import BENCHMARKS, DATA_ROOT, data_folder
from llava.eval.report.comparison import compare
from llava.eval.report.runs import read_runs
from llava.eval.report.table import terminal_table
from llava.eval.report.write import DISAGREEMENTS, write_report
from llava.eval.score import ScoreArguments, score
from llava.files import printable, read_json
from llava.method import DEFAULT_PRUNER
from llava.utils.cli import SOME_FAILED, command

if TYPE_CHECKING:
    from llava.eval.run import Run

METHODS = ("full", "prune", "accm", "no-image")
DEFAULT_METHODS = ("full", "prune", "accm")
DEFAULT_BUDGETS = ("1/4", "1/8", "1/16")
_BUDGET = re.compile(r"(\d{1,9})(?:/(\d{1,9}))?")


@dataclass
class SweepArguments(AskArguments):
    """Flags of the command."""

    benchmarks: Optional[List[str]] = flag("Which. Default: all.", choices=BENCHMARKS)
    budgets: Optional[List[str]] = flag(
        "Visual tokens that prune and accm keep: numbers, or shares of all tokens as 1/4. Default: "
        f"{' '.join(DEFAULT_BUDGETS)}."
    )
    methods: Optional[List[str]] = flag(
        "full (all tokens), prune, accm (pruned, with captions), no-image (the floor). Default: "
        f"{' '.join(DEFAULT_METHODS)}.",
        choices=METHODS,
    )
    visual_token_num: Optional[int] = flag("A sweep has --budgets instead.")
    pruner: str = flag("A sweep compares ACCM's own.", DEFAULT_PRUNER)
    pruner_options: List[str] = list_flag("A sweep compares ACCM's own.", [])
    no_image: bool = flag("A sweep has --methods no-image instead.", False)
    compensation: str = flag("A sweep has --methods instead.", CAPTIONS, off=NOTHING)
    data_root: str = flag("Folder with the data of all benchmarks.", DATA_ROOT)
    output_dir: str = flag("Where answers and scores go.", "outputs/sweep")
    report: Optional[str] = flag("Folder for a report of all runs: HTML, Markdown, CSV.")
    allow_missing: bool = flag("Count questions without an answer as wrong.", False)
    limit: Optional[int] = flag(LIMIT_HELP)


@dataclass(frozen=True)
class Configuration:
    """One way to answer.

    Attributes:
        method: one of METHODS.
        tokens: visual tokens of the budget; all of them if nothing is pruned.
    """

    method: str
    tokens: int

    @property
    def name(self) -> str:
        """The name of the configuration in file names."""
        return (
            self.method if self.method in ("full", "no-image") else f"{self.method}-{self.tokens}"
        )

    def arguments(self, args: SweepArguments) -> SweepArguments:
        """Returns the flags that the single command would have for it."""
        return dataclasses.replace(
            args,
            visual_token_num=self.tokens,
            compensation=CAPTIONS if self.method == "accm" else NOTHING,
            no_image=self.method == "no-image",
        )


def sweep(args: SweepArguments) -> int:
    """Answers, scores and compares; returns the exit status."""
    _refuse_single_flags(args)
    benchmarks = _choose("benchmark", args.benchmarks, BENCHMARKS, BENCHMARKS)
    from llava.eval.caches import Shared, UnitMemory
    from llava.eval.run import answer_questions
    from llava.utils.distributed import Processes

    is_first = Processes(args.device).is_first  # they meet before one of them has to download
    configurations = choose_configurations(args)
    # All questions are read before the first is answered: missing data are reported at once.
    runs = [_read_run(benchmark, args) for benchmark in benchmarks]
    shared = Shared(compensation=any(c.method == "accm" for c in configurations))
    status, results = 0, []
    for run in runs:
        shared.images = UnitMemory()  # the last benchmark's images are no longer needed
        for configuration in configurations:
            single = _configured(run, configuration)
            status |= answer_questions(single, configuration.arguments(args), shared)
            if is_first:
                results.append(_try_to_score(single, args))
    scored = [result for result in results if result is not None]
    if scored:
        print(_compare(scored, args))
    return status if len(scored) == len(results) else SOME_FAILED


def choose_configurations(args: SweepArguments) -> list[Configuration]:
    """Returns the configurations of --methods and --budgets, each once.

    Raises:
        UserError: no such method, an impossible or unused budget, or a part of the model is
            missing.
    """
    from llava.model.loading.parts import locate_parts
    from llava.model.multimodal_encoder.builder import count_patches

    methods = _choose("method", args.methods, METHODS, DEFAULT_METHODS)
    _refuse_idle_flags(args, methods)
    needed = dataclasses.replace(args, compensation=CAPTIONS if "accm" in methods else NOTHING)
    num_patches = count_patches(locate_parts(needed)["vision_tower"])
    words = DEFAULT_BUDGETS if args.budgets is None else args.budgets
    budgets = list(dict.fromkeys(parse_budget(word, num_patches) for word in words))
    return [
        Configuration(method, tokens)
        for method in methods
        for tokens in (budgets if method in ("prune", "accm") else [num_patches])
    ]


def parse_budget(word: str, num_patches: int) -> int:
    """Returns a budget as a number of tokens; a share is rounded to the nearest one, halves up.

    Raises:
        UserError: it is neither a number nor a share, or not from 1 to num_patches - 1.
    """
    tokens = 0
    if match := _BUDGET.fullmatch(word):
        part, whole = int(match[1]), int(match[2] or 0)
        if match[2] is None:
            tokens = part
        elif 0 < part < whole:
            tokens = max(1, (2 * num_patches * part + whole) // (2 * whole))
    if not 0 < tokens < num_patches:
        raise UserError(
            f"--budgets: {word!r} is no budget; give numbers from 1 to {num_patches - 1}, or "
            f"shares of the {num_patches} tokens of an image as 1/4 (--methods full takes them all)"
        )
    return tokens


def score_run(run: Run, args: SweepArguments) -> Path:
    """Scores the answers of a run, unless they have been scored since they were written.

    Returns:
        The result file.

    Raises:
        UserError: as llava.eval.score.
    """
    result = run.answers_file.with_suffix(".json")
    data_dir = data_folder(run.benchmark, None, args.data_root)
    flags = ScoreArguments(
        data_dir=str(data_dir),
        answers_file=str(run.answers_file),
        json=str(result),
        allow_missing=args.allow_missing,
    )
    if not _is_scored(flags):
        score(run.benchmark, flags)
    return result


def _is_scored(flags: ScoreArguments) -> bool:
    """Returns whether the result file is whole, of the present answers and of these flags."""
    answers_file, result = Path(flags.answers_file), Path(str(flags.json))
    if not result.is_file() or result.stat().st_mtime_ns < answers_file.stat().st_mtime_ns:
        return False
    try:
        made = read_json(result)
    except UserError:
        return False
    return (made.get("data_dir"), made.get("allow_missing")) == (
        printable(flags.data_dir),
        flags.allow_missing,
    )


def _refuse_single_flags(args: SweepArguments) -> None:
    """Refuses flags of a single run for which a sweep has a list."""
    for is_given, name, instead in (
        (args.visual_token_num is not None, "--visual-token-num", "--budgets"),
        (args.pruner != DEFAULT_PRUNER, "--pruner", "llava.eval.answer for each pruner"),
        (bool(args.pruner_options), "--pruner-options", "llava.eval.answer for each pruner"),
        (not args.has_captions, "--no-compensation", "--methods"),
        (args.no_image, "--no-image", "--methods no-image"),
    ):
        if is_given:
            raise UserError(f"a sweep has no {name}: use {instead}")


def _refuse_idle_flags(args: SweepArguments, methods: Sequence[str]) -> None:
    """Refuses pruning flags if no method prunes."""
    if {"prune", "accm"} & set(methods):
        return
    for name in ("budgets", "text_token_num", "text_selection"):
        if getattr(args, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')} has no effect with --methods {' '.join(methods)}, "
                "which prune nothing: leave it out, or name prune or accm too"
            )


def _choose(
    what: str, wanted: Sequence[str] | None, known: Sequence[str], default: Sequence[str]
) -> list[str]:
    """Returns the chosen values, each once, in the order of the known ones."""
    names = default if wanted is None else wanted
    for name in names:
        if name not in known:
            raise UserError(f"there is no {what} {name!r}; name some of: {', '.join(known)}")
    return [name for name in known if name in names]


def _read_run(benchmark: str, args: SweepArguments) -> Run:
    """Reads a benchmark's run without a configuration: its answers file is only the folder."""
    data_dir = data_folder(benchmark, None, args.data_root)
    folder = Path(args.output_dir) / benchmark
    return read_run(benchmark, data_dir, folder, args.model_path, limit=args.limit)


def _configured(run: Run, configuration: Configuration) -> Run:
    limit = "" if run.limit is None else f"-limit{run.limit}"
    name = f"{run.model_id}-{configuration.name}{limit}.jsonl"
    return dataclasses.replace(
        run, answers_file=run.answers_file / name, elsewhere="name another --output-dir"
    )


def _try_to_score(run: Run, args: SweepArguments) -> Path | None:
    """Returns the result file; None if these answers cannot be scored (others still may)."""
    try:
        return score_run(run, args)
    except UserError as error:
        print(f"error: {run.answers_file}: {error}", file=sys.stderr)
        return None


def _compare(results: Sequence[Path], args: SweepArguments) -> str:
    """Returns the table of all runs; with --report also writes files."""
    if args.report is None:
        return terminal_table(compare(read_runs(results)))
    return write_report(results, Path(args.report), DISAGREEMENTS)


main = command(SweepArguments, sweep, "llava.eval.sweep", __doc__)

if __name__ == "__main__":
    sys.exit(main())

"""Answers and scores benchmarks in many ways: ``python -m llava.eval.sweep --model-path ...``.

One process loads the model once for all (benchmark, method, budget). Each writes the same files as
llava.eval.answer and llava.eval.score: OUTPUT_DIR/BENCHMARK/MODEL-METHOD-K.jsonl (with --limit N
MODEL-METHOD-K-limitN.jsonl), with its journal and its scores beside it. After an interruption, the
same command continues where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llava.compensations import CAPTIONS, UNCOMPENSATED
from llava.errors import UserError
from llava.eval.answer import read_run
from llava.eval.benchmarks.registry import BENCHMARKS, data_folder
from llava.eval.configurations import (
    METHODS,
    Configuration,
    SweepArguments,
    choose,
    choose_configurations,
    needs_of,
    parse_budget,
)
from llava.eval.report.comparison import compare
from llava.eval.report.runs import read_runs
from llava.eval.report.table import terminal_table
from llava.eval.report.write import DISAGREEMENTS, write_report
from llava.eval.score import ScoreArguments, score
from llava.files import printable, read_json
from llava.method import DEFAULT_PRUNER
from llava.utils.cli import SOME_FAILED, command

if TYPE_CHECKING:
    from llava.eval.caches import Shared
    from llava.eval.run import Run
    from llava.utils.distributed import Processes

__all__ = ["METHODS", "main", "parse_budget", "score_run", "sweep"]


def sweep(args: SweepArguments) -> int:
    """Answers, scores and compares; returns the exit status."""
    _refuse_single_flags(args)
    benchmarks = choose("benchmark", args.benchmarks, BENCHMARKS, BENCHMARKS)
    from llava.eval.bench.costs import measure_costs
    from llava.eval.caches import Shared
    from llava.utils.distributed import Processes

    processes = Processes(args.device)  # they meet before one of them has to download
    configurations = choose_configurations(args, processes.is_first)
    if args.costs:
        _check_costs(args)
    # All questions are read before the first is answered: missing data are reported at once.
    runs = [_read_run(benchmark, args) for benchmark in benchmarks]
    shared = Shared(compensation=any(c.compensation == CAPTIONS for c in configurations))
    status, results = 0, []
    for run in runs:
        failed, scored = _answer(run, configurations, args, shared, processes)
        status |= failed
        results += scored
    if args.costs and processes.is_first:
        measure_costs(runs[0], configurations, args, shared)
    found = [result for result in results if result is not None]
    if found:
        if args.report is None:
            print(terminal_table(compare(read_runs(found))))
        else:
            print(write_report(found, Path(args.report), DISAGREEMENTS))
    return status if len(found) == len(results) else SOME_FAILED


def _answer(
    run: Run,
    configurations: Sequence[Configuration],
    args: SweepArguments,
    shared: Shared,
    processes: Processes,
) -> tuple[int, list[Path | None]]:
    """Answers a benchmark in all ways, part by part, so that each image is encoded once for all.

    Returns:
        The exit status, and the result file of each way; None for answers that cannot be scored,
        and no files for a process that is not the first.
    """
    from llava.eval.caches import UnitMemory, images_at_once
    from llava.eval.run import answer_questions, units_of
    from llava.model.backbones.registry import sizes_of

    status, results, needs = 0, [], needs_of(configurations)
    count = len(units_of(run, args))
    images = images_at_once(sizes_of(args).num_patches) * processes.count
    units = max(1, images // args.batch_size)  # a unit has at most a batch of images
    starts = range(0, max(1, count), units)
    for start in starts:
        part = slice(start, None if start == starts[-1] else start + units)
        shared.images = UnitMemory(needs=needs)  # the last part's images are no longer needed
        for one in configurations:
            single = one.of(run)
            status |= answer_questions(single, one.arguments(args), shared, part)
            if processes.is_first and part.stop is None:
                results.append(_try_to_score(single, args))
    return status, results


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
        (args.pruner != DEFAULT_PRUNER, "--pruner", "--pruners"),
        (bool(args.pruner_options), "--pruner-options", "--pruners NAME:OPTION=VALUE"),
        (not args.has_captions, "--no-compensation", "--methods"),
        (args.no_image, "--no-image", "--methods no-image"),
    ):
        if is_given:
            raise UserError(f"a sweep has no {name}: use {instead}")


def _check_costs(args: SweepArguments) -> None:
    """Refuses --costs on a model for which there are no formulas, before anything is answered."""
    from llava.model.loading.parts import read_model

    config = read_model(replace(args, **UNCOMPENSATED))[1]
    if not config.has_clip:
        raise UserError(
            f"--costs has formulas for LLaVA, and {args.model_path} is {config.family}: leave it "
            "out"
        )


def _read_run(benchmark: str, args: SweepArguments) -> Run:
    """Reads a benchmark's run without a configuration: its answers file is only the folder."""
    data_dir = data_folder(benchmark, None, args.data_root)
    folder = Path(args.output_dir) / benchmark
    return read_run(benchmark, data_dir, folder, args.model_path, limit=args.limit)


def _try_to_score(run: Run, args: SweepArguments) -> Path | None:
    """Returns the result file; None if these answers cannot be scored (others still may)."""
    try:
        return score_run(run, args)
    except UserError as error:
        print(f"error: {run.answers_file}: {error}", file=sys.stderr)
        return None


main = command(SweepArguments, sweep, "llava.eval.sweep", __doc__)

if __name__ == "__main__":
    sys.exit(main())

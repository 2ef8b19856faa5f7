"""Scores an answers file offline: ``python -m llava.eval.score BENCHMARK --data-dir ...``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.arguments import flag
from llava.errors import UserError
from llava.eval.benchmarks.registry import (
    BENCHMARKS,
    DATA_ROOT,
    data_folder,
    first_questions,
    limit_of,
    main_number,
    reader,
    scorer,
)
from llava.eval.journal import mean_of_share, read_settings
from llava.eval.scoring.matching import NoLabels
from llava.files import check_target, printable, write_json
from llava.utils.cli import benchmark_command
from llava.utils.jsonl import read_objects


@dataclass
class ScoreArguments:
    """Flags of the command."""

    data_dir: Optional[str] = flag("The benchmark's data. Default: its folder under --data-root.")
    data_root: str = flag("Folder with the data of all benchmarks.", DATA_ROOT)
    answers_file: str = flag("The answers, JSON lines.")
    json: Optional[str] = flag("Where the scores go as JSON.")
    allow_missing: bool = flag("Count questions without an answer as wrong.", False)
    upload: Optional[str] = flag(
        "MMBench, SEED-Bench: where the file for their evaluation servers goes, .xlsx or .jsonl."
    )


def read_answers(path: Path) -> list[dict]:
    """Reads the records of an answers file.

    Raises:
        UserError: no such file, or a line is not a JSON object.
    """
    return [record for _, record in read_objects(path)]


def score(benchmark: str, args: ScoreArguments) -> int:
    """Prints the headline and writes all numbers."""
    if args.answers_file is None:
        raise UserError("say which answers: --answers-file FILE")
    data_dir = data_folder(benchmark, args.data_dir, args.data_root)
    answers_file = Path(args.answers_file)
    module = scorer(benchmark)
    if args.upload is not None and not hasattr(module, "write_upload"):
        raise UserError("--upload is for mmbench and seed: the others have no server to upload to")
    targets = [Path(target) for target in (args.json, args.upload) if target is not None]
    if len({path.resolve() for path in (answers_file, *targets)}) <= len(targets):
        raise UserError("--answers-file, --json and --upload must be different files")
    for target in targets:
        check_target(target)
    settings = read_settings(answers_file)
    limit = limit_of(settings, answers_file)
    if limit is not None and args.upload is not None:
        raise UserError(
            f"{answers_file} answers the first {limit} questions only (--limit), and servers take "
            "whole runs: leave --upload out"
        )
    asked, total = (None, 0) if limit is None else _read_asked(benchmark, data_dir, limit)
    answers = read_answers(answers_file)
    try:
        scores = module.score(data_dir, answers, args.allow_missing, asked)
    except NoLabels as error:
        if args.upload is None or args.json is not None:
            raise
        module.write_upload(data_dir, answers, Path(args.upload), args.allow_missing)
        print(f"{args.upload} is written; {error}")
        return 0
    if args.upload is not None:
        module.write_upload(data_dir, answers, Path(args.upload), args.allow_missing)
    about = {
        "benchmark": benchmark,
        "main_number": main_number(benchmark, scores),
        "data_dir": printable(data_dir),
        "answers_file": printable(answers_file),
        "allow_missing": args.allow_missing,
        "limit": limit,
        "settings": settings,
        **mean_of_share(answers_file, settings),
    }
    if args.json is not None:
        write_json(Path(args.json), about | scores)
    print(module.headline(scores))
    if asked is not None:
        print(f"limited: {len(asked)} of {total} questions were asked (--limit {limit})")
    if scores["missing"]:
        print(f"lenient: {len(scores['missing'])} questions without an answer count as wrong")
    return 0


def _read_asked(benchmark: str, data_dir: Path, limit: int) -> tuple[set[str], int]:
    """Returns the keys of a limited run's questions, and the number of all questions."""
    questions = reader(benchmark).read_questions(data_dir)
    asked = first_questions(benchmark, questions, limit)
    return {question.key for question in asked}, len(questions)


main = benchmark_command(ScoreArguments, score, BENCHMARKS, "llava.eval.score", __doc__)

if __name__ == "__main__":
    sys.exit(main())

"""Scores an answers file offline: ``python -m llava.eval.score BENCHMARK --data-dir ...``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.errors import UserError
from llava.eval.benchmarks import mmvp as mmvp_data
from llava.eval.command import USER_MISTAKE, run_command
from llava.eval.lines import read_lines, write_json
from llava.eval.scoring import mmvp as mmvp_scoring
from llava.model.builder import flag


@dataclass
class ScoreArguments:
    """Flags of the command."""

    data_dir: Optional[str] = flag("The benchmark's data folder.")
    answers_file: Optional[str] = flag("The answers, JSON lines.")
    json: Optional[str] = flag("Where the scores go as JSON.")
    allow_missing: bool = flag("Count questions without an answer as wrong.", False)


def read_answers(path: Path, fields: tuple[str, ...]) -> list[dict]:
    """The records of an answers file.

    Raises:
        UserError: a line that is no record, or lacks one of the fields.
    """
    records = []
    for number, value in read_lines(path):
        if isinstance(value, str):
            raise UserError(value)
        lacking = [field for field in fields if field not in value]
        if lacking:
            raise UserError(
                f"line {number} of {path} has no {', '.join(lacking)}: is this an answers file of "
                "this benchmark?"
            )
        for field in fields:
            if not isinstance(value[field], str) and (
                field != "question_id" or type(value[field]) is not int
            ):
                raise UserError(f"line {number} of {path}: {field} is {value[field]!r}")
        records.append(value)
    return records


def score_mmvp(data_dir: Path, answers_file: Path, allow_missing: bool) -> tuple[dict, str]:
    """MMVP's scores and their headline."""
    answers = read_answers(answers_file, ("question_id", "answer"))
    scores = mmvp_scoring.score(mmvp_data.read_questions(data_dir), answers, allow_missing)
    pairs = scores["total"] // 2
    return scores, (
        f"MMVP: pair accuracy {scores['accuracy']:.2f}% ({scores['correct'] // 2} of {pairs} pairs, "
        f"{scores['individually_correct']} of {scores['total']} single answers)"
    )


SCORERS: dict[str, Callable[[Path, Path, bool], tuple[dict, str]]] = {"mmvp": score_mmvp}


def main(argv: list[str] | None = None) -> int:
    """The command."""
    argv = sys.argv[1:] if argv is None else argv
    benchmark = argv[0] if argv else ""
    if benchmark not in SCORERS and benchmark not in ("-h", "--help"):
        print(f"error: name a benchmark first, one of: {', '.join(SCORERS)}", file=sys.stderr)
        return USER_MISTAKE

    def work(args: ScoreArguments) -> int:
        if args.data_dir is None or args.answers_file is None:
            raise UserError("give --data-dir FOLDER and --answers-file FILE")
        scores, headline = SCORERS[benchmark](
            Path(args.data_dir), Path(args.answers_file), args.allow_missing
        )
        if args.json is not None:
            write_json(Path(args.json), scores)
        print(headline)
        return 0

    flags = argv if benchmark not in SCORERS else argv[1:]
    program = f"llava.eval.score {benchmark if benchmark in SCORERS else 'BENCHMARK'}"
    return run_command(ScoreArguments, work, program, __doc__.splitlines()[0], flags)


if __name__ == "__main__":
    sys.exit(main())

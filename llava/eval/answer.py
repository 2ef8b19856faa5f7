"""Answers a benchmark: ``python -m llava.eval.answer BENCHMARK --data-dir ... --answers-file ...``.

After an interruption, the same command continues where it stopped.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from llava.arguments import AskArguments, flag
from llava.errors import UserError
from llava.eval.arguments import check_method
from llava.eval.benchmarks.registry import (
    BENCHMARKS,
    DATA_ROOT,
    LIMIT_HELP,
    data_folder,
    first_questions,
    reader,
)
from llava.utils.cli import benchmark_command

if TYPE_CHECKING:
    from llava.eval.run import Run


@dataclass
class AnswerArguments(AskArguments):
    """Flags of the command."""

    data_dir: Optional[str] = flag("The benchmark's data. Default: its folder under --data-root.")
    data_root: str = flag("Folder with the data of all benchmarks.", DATA_ROOT)
    question_file: Optional[str] = flag(
        "LLaVA's question file. Default: the one in the data folder; without it the questions are "
        "built from the benchmark's own data."
    )
    answers_file: Optional[str] = flag("Where the answers go, JSON lines.")
    limit: Optional[int] = flag(LIMIT_HELP)


def answer(benchmark: str, args: AnswerArguments) -> int:
    """Answers a benchmark's questions; returns the exit status."""
    if args.answers_file is None:
        raise UserError("say where the answers go: --answers-file FILE")
    if args.model_path is None:
        raise UserError("say which model: --model-path FOLDER, or a name on the Hugging Face hub")
    from llava.eval.run import answer_questions

    check_method(args)
    data_dir = data_folder(benchmark, args.data_dir, args.data_root)
    question_file = None if args.question_file is None else Path(args.question_file)
    answers_file = Path(args.answers_file)
    run = read_run(benchmark, data_dir, answers_file, args.model_path, question_file, args.limit)
    return answer_questions(run, args)


def read_run(
    benchmark: str,
    data_dir: Path,
    answers_file: Path,
    model_path: str,
    question_file: Path | None = None,
    limit: int | None = None,
) -> Run:
    """Reads a run over a benchmark's questions, or over the first of them.

    Raises:
        UserError: data are missing or not right, or the limit is below 1.
    """
    from llava.eval.run import Run  # torch comes with it

    module = reader(benchmark)
    questions = module.read_questions(data_dir, question_file)
    if limit is not None:
        questions = first_questions(benchmark, questions, limit)
    return Run(
        benchmark=benchmark,
        questions=questions,
        answer_record=module.answer_record,
        answers_file=answers_file,
        model_id=Path(model_path).resolve().name,
        limit=limit,
    )


main = benchmark_command(AnswerArguments, answer, BENCHMARKS, "llava.eval.answer", __doc__)

if __name__ == "__main__":
    sys.exit(main())

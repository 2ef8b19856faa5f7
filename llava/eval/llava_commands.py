"""What LLaVA's own answering commands share: their flags, and how these become a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.errors import UserError
from llava.eval.arguments import AskArguments, check_no_image
from llava.eval.benchmarks.question import Question
from llava.eval.run import Run, answer_questions
from llava.model.builder import flag


@dataclass
class LlavaCommandArguments(AskArguments):
    """LLaVA's flags, beside those of every command here."""

    model_base: Optional[str] = flag("Not supported: merged checkpoints only.")
    image_folder: Optional[str] = flag("What the question file's image paths are relative to.", "")
    question_file: Optional[str] = flag("The questions.")
    answers_file: Optional[str] = flag("Where the answers go, JSON lines.")
    conv_mode: str = flag("vicuna_v1; the method's program knows no other.", "vicuna_v1")
    num_chunks: int = flag("Cut the questions into so many blocks ...", 1)
    chunk_idx: int = flag("... and answer this one, counted from 0.", 0)
    temperature: float = flag("0: answers are greedy; sampling is not supported.", 0.0)
    top_p: Optional[float] = flag("Not supported: without effect at temperature 0.")
    num_beams: int = flag("1; more are not supported.", 1)


def answer_as_llava(
    args: LlavaCommandArguments,
    name: str,
    read: Callable[[Path], Sequence[Question]],
    answer_record: Callable[[Question, str, str, str], dict],
) -> int:
    """Answers the questions of a file into LLaVA's answers file.

    Args:
        args: the flags.
        name: of the command.
        read: reads the question file.
        answer_record: makes a line of the answers file.

    Raises:
        UserError: a flag has a value that is not supported, or is missing.
    """
    _check(args)
    questions = chunk(read(Path(args.question_file)), args.num_chunks, args.chunk_idx)
    run = Run(
        name,
        questions,
        answer_record,
        Path(args.answers_file),
        Path(args.model_path).resolve().name,
    )
    return answer_questions(run, args)


def chunk(questions: Sequence[Question], count: int, index: int) -> Sequence[Question]:
    """One of LLaVA's consecutive blocks of ceil(N / count) questions.

    Raises:
        UserError: there is no such block; with few questions the last ones are empty.
    """
    if count < 1 or not 0 <= index < count:
        raise UserError(f"--chunk-idx is {index} of --num-chunks {count}: it counts from 0")
    size = -(-len(questions) // count)
    block = questions[index * size : (index + 1) * size]
    if not block:
        raise UserError(
            f"there are only {len(questions)} questions: block {index} of {count} is empty"
        )
    return block


def _check(args: LlavaCommandArguments) -> None:
    for name in ("model_path", "question_file", "answers_file"):
        if getattr(args, name) is None:
            raise UserError(f"give --{name.replace('_', '-')}")
    check_no_image(args)
    supported = {
        "model_base": None,
        "conv_mode": "vicuna_v1",
        "temperature": 0.0,
        "top_p": None,
        "num_beams": 1,
    }
    for name, value in supported.items():
        if getattr(args, name) != value:
            only = "leave it out" if value is None else f"only {value} is"
            raise UserError(
                f"--{name.replace('_', '-')} {getattr(args, name)} is not supported, {only}: the "
                "method is evaluated with greedy answers of merged checkpoints"
            )

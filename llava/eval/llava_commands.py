"""The shared part of LLaVA's own answering commands: their flags, and the run made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.arguments import AskArguments, flag
from llava.errors import UserError, shown
from llava.eval.arguments import check_method
from llava.eval.benchmarks.question import Question


@dataclass
class OneValueArguments:
    """LLaVA's flags that have one value here; see check_one_value."""

    model_base: Optional[str] = flag("Not supported: merged checkpoints only.")
    conv_mode: Optional[str] = flag("vicuna_v1; the method's program knows no other.", "vicuna_v1")


@dataclass
class GreedyArguments(OneValueArguments):
    """LLaVA's flags that have one value in benchmarks; see check_one_value."""

    temperature: float = flag("0: benchmarks are answered greedily.", 0.0)
    top_p: Optional[float] = flag("Not supported: without effect at temperature 0.")
    num_beams: int = flag("1: benchmarks are answered greedily.", 1)


_GREEDY = "benchmarks are answered greedily, as in the published results"
# Flag -> its supported values, and why others are not. LLaVA's None for conv_mode means the
# conversation that the model was tuned with.
_ONE_VALUE = {
    "model_base": ((None,), "checkpoints have to be merged"),
    "conv_mode": (("vicuna_v1", None), "the method's program knows no other"),
}
_ONE_VALUE_IN_BENCHMARKS = _ONE_VALUE | {
    "temperature": ((0.0,), _GREEDY),
    "top_p": ((None,), _GREEDY),
    "num_beams": ((1,), _GREEDY),
}


def check_one_value(args: OneValueArguments) -> None:
    """Refuses a value that is not supported.

    Raises:
        UserError: a value is not supported; names the flag and its possible values.
    """
    is_greedy = isinstance(args, GreedyArguments)
    for name, (values, why) in (_ONE_VALUE_IN_BENCHMARKS if is_greedy else _ONE_VALUE).items():
        if getattr(args, name) not in values:
            only = "leave it out" if values[0] is None else f"only {values[0]} is"
            raise UserError(
                f"--{name.replace('_', '-')} {shown(str(getattr(args, name)))} is not supported,"
                f" {only}: {why}"
            )


@dataclass
class LlavaCommandArguments(GreedyArguments, AskArguments):
    """LLaVA's flags, beside those of every command here."""

    image_folder: Optional[str] = flag("What the question file's image paths are relative to.", "")
    question_file: str = flag("The questions.")
    answers_file: str = flag("Where the answers go, JSON lines.")
    num_chunks: int = flag("Cut the questions into so many blocks ...", 1)
    chunk_idx: int = flag("... and answer this one, counted from 0.", 0)


def answer_as_llava(
    args: LlavaCommandArguments,
    name: str,
    read: Callable[[Path], Sequence[Question]],
    answer_record: Callable[[Question, str, str, str], dict],
) -> int:
    """Answers the questions of a file and writes LLaVA's answers file.

    Args:
        args: the flags.
        name: name of the command.
        read: reads the question file.
        answer_record: makes a line of the answers file.

    Raises:
        UserError: a flag is missing, or its value is not supported.
    """
    from llava.eval.run import Run, answer_questions

    for flag_name in ("model_path", "question_file", "answers_file"):
        if getattr(args, flag_name) is None:
            raise UserError(f"give --{flag_name.replace('_', '-')}")
    check_method(args)
    check_one_value(args)
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
    """Returns one of LLaVA's consecutive blocks of ceil(N / count) questions.

    Raises:
        UserError: there is no such block; if N is small the last ones are empty.
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

"""Answers MMVP's questions: ``python -m llava.eval.mmvp_eval``."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tqdm import tqdm

from llava.conversation import question_prompt
from llava.errors import UserError
from llava.eval.benchmarks.mmvp import HOME, MAX_NEW_TOKENS, Question, read_questions
from llava.eval.command import SOME_FAILED, run_command
from llava.eval.engine import Clock, Request, answer_units, units_in_order
from llava.eval.lines import LineWriter, make_folder
from llava.model.builder import ModelArguments, flag, load_from_arguments
from llava.model.llava_arch import DEFAULT_SEED


@dataclass
class MmvpArguments(ModelArguments):
    """Flags of the command."""

    data_dir: str = flag(
        "Folder with Questions.csv and 'MMVP Images'.", "playground/data/eval/mmvp"
    )
    answers_file: Optional[str] = flag("Where the answers go, JSON lines.")
    visual_token_num: Optional[int] = flag(
        "Visual tokens to keep. Default: VISUAL_TOKEN_NUM in "
        "llava/model/multimodal_encoder/clip_encoder.py."
    )
    text_token_num: Optional[int] = flag(
        "Tokens that the question picks. Default: the paper's number for this budget."
    )
    seed: int = flag("Seed of the one random draw of each question.", DEFAULT_SEED)
    max_new_tokens: int = flag("Longest answer in tokens.", MAX_NEW_TOKENS)
    batch_size: int = flag("Questions at once. Results do not depend on it.", 8)


def _request(question: Question, args: MmvpArguments) -> Request:
    return Request(
        id=question.id,
        image=question.image,
        question=question.prompt,
        tower_question=question.text,  # without the options
        visual_token_num=args.visual_token_num,
        text_token_num=args.text_token_num,
        seed=args.seed,
        max_new_tokens=args.max_new_tokens,
    )


def answer_record(question: Question, text: str, model_id: str) -> dict:
    """One line of the answers file."""
    return {
        "question_id": question.id,
        "prompt": question_prompt(question.prompt),
        "answer": text,
        "gt_answer": question.answer,
        "model_id": model_id,
        "text_options": question.options,
    }


def answer_mmvp(args: MmvpArguments) -> int:
    """Answers all questions into the answers file; the exit status says whether all went well."""
    if args.answers_file is None:
        raise UserError("say where the answers go: --answers-file FILE")
    questions = read_questions(Path(args.data_dir))
    if questions and not questions[0].image.parent.is_dir():
        raise UserError(f"there is no folder {questions[0].image.parent}: get it from {HOME}")
    path = Path(args.answers_file)
    make_folder(path.parent)
    units = units_in_order([_request(question, args) for question in questions], args.batch_size)
    failed = 0
    with LineWriter(path) as writer:
        model = load_from_arguments(args)
        start = time.perf_counter()
        outcomes = answer_units(model, units, Clock())
        progress = tqdm(outcomes, total=len(questions), unit="question", smoothing=0)
        for question, outcome in zip(questions, progress):
            if outcome.answer is None:
                failed += 1
                tqdm.write(f"error: question {question.id}: {outcome.error}", file=sys.stderr)
                continue
            model_id = Path(args.model_path).name
            writer.write(answer_record(question, outcome.answer.text, model_id))
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(
        f"{len(questions) - failed} of {len(questions)} questions answered in {seconds:.1f} s "
        f"({seconds / max(1, len(questions)):.3f} s each, loading excluded), peak memory {memory:.2f} GiB"
    )
    return SOME_FAILED if failed else 0


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_command(
        MmvpArguments, answer_mmvp, "llava.eval.mmvp_eval", __doc__.splitlines()[0], argv
    )


if __name__ == "__main__":
    sys.exit(main())

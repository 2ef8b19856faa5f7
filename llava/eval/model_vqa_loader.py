"""LLaVA's command for MME, POPE, SEED-Bench and GQA: ``python -m llava.eval.model_vqa_loader``."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from llava.arguments import flag
from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.question import Question
from llava.eval.llava_commands import LlavaCommandArguments, answer_as_llava
from llava.utils.cli import command


@dataclass
class LoaderArguments(LlavaCommandArguments):
    """Flags of the command."""

    max_new_tokens: int = flag("Longest answer in tokens.", llava_files.MAX_NEW_TOKENS)


def read_questions(args: LoaderArguments, path: Path) -> list[Question]:
    """Reads the questions of a file, with the flags' image folder and answer length."""
    folder = Path(args.image_folder or "")
    # In MME's file both questions of an image have one id.
    questions = llava_files.read_question_file(path, folder, lambda i, prompt: f"{i} {prompt}")
    return [dataclasses.replace(q, max_new_tokens=args.max_new_tokens) for q in questions]


def answer(args: LoaderArguments) -> int:
    """Answers the questions; the tower question is the text before the first newline."""
    return answer_as_llava(
        args,
        "model_vqa_loader",
        lambda path: read_questions(args, path),
        llava_files.answer_record,
    )


main = command(LoaderArguments, answer, "llava.eval.model_vqa_loader", __doc__)

if __name__ == "__main__":
    sys.exit(main())

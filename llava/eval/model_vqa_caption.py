"""The method's command for Flickr30k: ``python -m llava.eval.model_vqa_caption``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from llava.eval.benchmarks import llava_files
from llava.eval.benchmarks.question import Question
from llava.eval.llava_commands import answer_as_llava
from llava.eval.model_vqa_loader import LoaderArguments, read_questions
from llava.utils.cli import command


def answer(args: LoaderArguments) -> int:
    """Answers the questions; the tower question is the whole text."""

    def read(path: Path) -> list[Question]:
        questions = read_questions(args, path)
        return [dataclasses.replace(q, tower_question=q.prompt) for q in questions]

    return answer_as_llava(args, "model_vqa_caption", read, llava_files.answer_record)


main = command(LoaderArguments, answer, "llava.eval.model_vqa_caption", __doc__)

if __name__ == "__main__":
    sys.exit(main())

"""LLaVA's command for MMBench: ``python -m llava.eval.model_vqa_mmbench``."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from llava.arguments import flag
from llava.errors import UserError
from llava.eval.benchmarks import mmbench
from llava.eval.llava_commands import LlavaCommandArguments, answer_as_llava
from llava.utils.cli import command


@dataclass
class MmbenchArguments(LlavaCommandArguments):
    """Flags of the command."""

    single_pred_prompt: bool = flag("Ask for the option's letter, as the method does.", True)
    all_rounds: bool = flag("Not supported: the rotations are rows of the table.", False)
    lang: str = flag("en; the Chinese edition is not supported.", "en")


def answer(args: MmbenchArguments) -> int:
    """Answers every row of the table."""
    if not args.single_pred_prompt or args.all_rounds or args.lang != "en":
        raise UserError(
            "the method asks MMBench with --single-pred-prompt, without --all-rounds and in "
            "English; nothing else is supported"
        )
    return answer_as_llava(
        args,
        "model_vqa_mmbench",
        lambda table: mmbench.read_questions(table.parent, table),
        mmbench.answer_record,
    )


main = command(MmbenchArguments, answer, "llava.eval.model_vqa_mmbench", __doc__)

if __name__ == "__main__":
    sys.exit(main())

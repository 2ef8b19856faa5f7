"""Everything that happened to a question: ``python -m llava.eval.trace``.

One question with --image and --question, or many with --requests and --output.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llava.errors import UserError
from llava.eval.arguments import TraceArguments, check_method
from llava.moved import names_of
from llava.utils.cli import command

__getattr__ = names_of(__name__, ("llava.eval.tracing",))  # where the work is now


def trace(args: TraceArguments) -> int:
    """Runs the one of the two uses that the flags mean."""
    from llava.eval.tracing import trace_many, trace_one

    check_method(args)
    args.check_decoding()
    if args.requests is not None:
        one = ("image", "question", "tower_question", "figure")
        _refuse(args, one, "--requests excludes")
        if args.output is None:
            raise UserError("--requests needs --output FILE")
        return trace_many(args)
    if args.image is None or args.question is None:
        raise UserError(
            "give --image FILE and --question TEXT, or --requests FILE and --output FILE"
        )
    _refuse(args, ("batch_size",), "one question has no use for")
    return trace_one(args)


def _refuse(args: TraceArguments, names: Sequence[str], why: str) -> None:
    """Refuses given flags that have no effect."""
    for name in names:
        if getattr(args, name) != getattr(TraceArguments, name):
            raise UserError(f"{why} --{name.replace('_', '-')}: leave it out")


main = command(TraceArguments, trace, "llava.eval.trace", __doc__)

if __name__ == "__main__":
    sys.exit(main())

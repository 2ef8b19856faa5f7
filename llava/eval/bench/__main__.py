"""What pruning and compensation cost and save: ``python -m llava.eval.bench``.

Without a checkpoint, random weights of a named shape are made on the device; with --model-path a
real model runs. Texts have fixed lengths to make runs comparable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llava.eval.bench.arguments import BenchArguments
from llava.utils.cli import command, run_command


def bench(args: BenchArguments) -> int:
    """Measures, prints the table, writes the files."""
    from llava.eval.bench.comparison import measure_methods

    return measure_methods(args)


_bench = command(BenchArguments, bench, "llava.eval.bench", __doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the flags of a server's bench are others than those of a model's.

    Args:
        argv: the command line; None takes the process's.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not any(word.partition("=")[0] == "--serve" for word in words):
        return _bench(words)
    from llava.eval.bench.serving import ServingArguments, measure_server

    about = "How a running server answers many clients at once."
    return run_command(ServingArguments, measure_server, "llava.eval.bench", about, words)


if __name__ == "__main__":
    sys.exit(main())

"""What pruning and compensation cost and save: ``python -m llava.eval.bench``.

Without a checkpoint, random weights of a named shape are made on the device; with --model-path a
real model runs. Texts have fixed lengths to make runs comparable.
"""

from __future__ import annotations

import sys

from llava.eval.bench.arguments import BenchArguments
from llava.utils.cli import command


def bench(args: BenchArguments) -> int:
    """Measures, prints the table, writes the files."""
    from llava.eval.bench.comparison import measure_methods

    return measure_methods(args)


main = command(BenchArguments, bench, "llava.eval.bench", __doc__)

if __name__ == "__main__":
    sys.exit(main())

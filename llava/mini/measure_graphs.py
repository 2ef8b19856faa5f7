"""Measures scene graphs: ``python -m llava.mini.measure_graphs --model-path DIR``.

Test scenes, which no training has seen, are drawn, and the triplets that the relation model finds
in them are compared with the true ones, as texts: all three names must be right.
"""

from __future__ import annotations

import sys

from llava.mini.measuring.arguments import GraphArguments
from llava.utils.cli import command


def measure_graphs(args: GraphArguments) -> int:
    """Finds the graphs of test scenes, and prints which share of the true triplets is in them."""
    from llava.mini.measuring.graphs import measure_graphs as measure

    return measure(args)


main = command(GraphArguments, measure_graphs, "llava.mini.measure_graphs", __doc__)

if __name__ == "__main__":
    sys.exit(main())

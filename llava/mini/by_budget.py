"""Measures captions at many budgets: ``python -m llava.mini.by_budget --model-path DIR ...``.

At each budget every question is answered with the kept tokens alone, with the caption that the
selector chose, and on demand with captions that are true, or false in what is asked for. This shows
whether the LLM would use a good caption, whether it believes a bad one against what it sees, and
what the generated captions gain or cost.
"""

from __future__ import annotations

import sys

from llava.mini.measuring.arguments import ByBudgetArguments
from llava.utils.cli import command


def by_budget(args: ByBudgetArguments) -> int:
    """Asks at each budget, scores, and prints and writes shares of the score with all tokens."""
    from llava.mini.measuring.by_budget import measure_by_budget

    return measure_by_budget(args)


main = command(ByBudgetArguments, by_budget, "llava.mini.by_budget", __doc__)

if __name__ == "__main__":
    sys.exit(main())

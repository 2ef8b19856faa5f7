"""Sets runs side by side: ``python -m llava.eval.report RUN... --output DIR``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from llava.command import called, example
from llava.eval.report.write import DISAGREEMENTS, write_report
from llava.utils.cli import guard
from llava.utils.flags import LineParser

_PROGRAM = "llava.eval.report"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = LineParser(called(_PROGRAM), "Sets runs side by side.", example(_PROGRAM))
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", type=Path, help="JSON of llava.eval.score"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", type=Path, help="Where the report goes."
    )
    parser.add_argument(
        "--disagreements",
        type=int,
        default=DISAGREEMENTS,
        metavar="N",
        help=f"Questions to show of each two runs that disagree. Default: {DISAGREEMENTS}.",
    )
    parser.add_argument(
        "--references",
        type=Path,
        metavar="FILE",
        help="JSON with numbers of others to set beside these, as scripts/published.json.",
    )
    args = parser.parse_args(argv)

    def work() -> int:
        print(write_report(args.runs, args.output, args.disagreements, references=args.references))
        print("\n".join(str(args.output / f"report.{kind}") for kind in ("md", "csv", "html")))
        return 0

    return guard(work)


if __name__ == "__main__":
    sys.exit(main())

"""Runs published pruners on recorded cases: ``python -m llava.eval.replay --cases cases.json ...``.

Anyone can check an implementation against another with it. A case names a method, its settings, a
budget and arrays of --inputs; the output has a line for each case, in their order.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.arguments import flag
from llava.errors import UserError
from llava.files import check_target
from llava.utils.cli import command


@dataclass
class ReplayArguments:
    """Flags of the command."""

    cases: Optional[str] = flag("The recorded cases, JSON: an object with a list under cases.")
    inputs: Optional[str] = flag("Their input arrays, .npz, by the names that the cases give.")
    output: Optional[str] = flag(
        "Where the results go, JSON lines: id, kept, picked and n_out, or id and error."
    )
    float64: bool = flag("Compute in float64, not in float32.", False)
    arrays: Optional[str] = flag("Where merged tokens go, .npz, by case and name.")


def replay(args: ReplayArguments) -> int:
    """Checks the flags and replays the cases."""
    missing = [name for name in ("cases", "inputs", "output") if getattr(args, name) is None]
    if missing:
        raise UserError(f"--{missing[0]} is missing: give --cases, --inputs and --output FILE")
    targets = [Path(path) for path in (args.output, args.arrays) if path is not None]
    for target in targets:
        check_target(target)
    if len({target.resolve() for target in targets}) < len(targets):
        raise UserError("--output and --arrays are one file: name two")
    from llava.eval.replaying import replay_cases  # torch comes with it

    cases, inputs, output = (Path(str(path)) for path in (args.cases, args.inputs, args.output))
    arrays = None if args.arrays is None else Path(args.arrays)
    return replay_cases(cases, inputs, output, arrays, args.float64)


main = command(ReplayArguments, replay, "llava.eval.replay", __doc__)

if __name__ == "__main__":
    sys.exit(main())

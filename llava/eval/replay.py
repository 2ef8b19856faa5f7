"""Runs published methods on recorded cases: ``python -m llava.eval.replay --cases cases.json ...``.

Anyone can check an implementation against another with it. A case names a pruner, its settings, a
budget and arrays of --inputs; the output has a line for each case, in their order. Cases of the
scene graph are a folder of their own, see --scene-graph.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from llava.arguments import flag, list_flag
from llava.errors import UserError
from llava.files import check_target
from llava.utils.cli import command


@dataclass
class ReplayArguments:
    """Flags of the command."""

    cases: Optional[str] = flag("The recorded cases, JSON: an object with a list under cases.")
    inputs: Optional[str] = flag("Their input arrays, .npz, by the names that the cases give.")
    output: Optional[str] = flag(
        "Where the results go, JSON lines: id, kept, picked and n_out (of a scene graph id, passed,"
        " kept, triplets, chosen, text and null), or id and error."
    )
    float64: bool = flag("Compute in float64, not in float32.", False)
    arrays: Optional[str] = flag("Where merged tokens go, .npz, by case and name.")
    scene_graph: Optional[str] = flag(
        "Run recorded cases of the scene graph instead: a folder with cases.json, inputs.npz and "
        "outputs.npz."
    )
    weights: list[str] = list_flag(
        "Folders in which the weights of these cases, weights_NAME.pth, are looked for.", ()
    )


def replay(args: ReplayArguments) -> int:
    """Checks the flags and replays the cases."""
    if args.scene_graph is not None:
        return _replay_graphs(args)
    if args.weights:
        raise UserError("--weights belongs to --scene-graph: leave it out, or give both")
    _check_given(args, "cases", "inputs", "output")
    targets = [Path(path) for path in (args.output, args.arrays) if path is not None]
    for target in targets:
        check_target(target)
    if len({target.resolve() for target in targets}) < len(targets):
        raise UserError("--output and --arrays are one file: name two")
    from llava.eval.replaying import replay_cases  # torch comes with it

    cases, inputs, output = (Path(str(path)) for path in (args.cases, args.inputs, args.output))
    arrays = None if args.arrays is None else Path(args.arrays)
    return replay_cases(cases, inputs, output, arrays, args.float64)


def _replay_graphs(args: ReplayArguments) -> int:
    """Checks the flags and replays the cases of a scene graph."""
    others = [name for name in ("cases", "inputs", "arrays", "float64") if getattr(args, name)]
    if others:
        raise UserError(f"--{others[0]} has no effect with --scene-graph: leave one of them out")
    _check_given(args, "scene_graph", "weights", "output")
    output = Path(str(args.output))
    check_target(output)
    from llava.eval.replaying_graphs import replay_graphs  # torch comes with it

    return replay_graphs(Path(str(args.scene_graph)), [Path(f) for f in args.weights], output)


def _check_given(args: ReplayArguments, *names: str) -> None:
    """Raises a UserError if one of the flags is missing."""
    flags = [f"--{name.replace('_', '-')}" for name in names]
    for name, word in zip(names, flags):
        if not getattr(args, name):
            raise UserError(f"{word} is missing: give {flags[0]}, {flags[1]} and {flags[2]} FILE")


main = command(ReplayArguments, replay, "llava.eval.replay", __doc__)

if __name__ == "__main__":
    sys.exit(main())

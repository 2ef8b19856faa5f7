"""The circumstances of runs: dates, times, machines, versions and settings, with files."""

from __future__ import annotations

from collections.abc import Sequence

from llava.eval.report.runs import BENCHMARKS, Run
from llava.eval.report.statistics import DRAWS

TITLE = "How the runs were made"
TIME = (
    "Seconds a question: what a process spent on its questions, loading excluded, divided by their "
    "number. The runs of one sweep share what was encoded of the images, which the first of them "
    "pays for: python -m llava.eval.bench times methods on equal terms."
)
EXPLANATION = (
    "Per cent of full: the mean score of a run's questions as a share of that of the run with all "
    "visual tokens; a mean over benchmarks is the mean of these shares. Floor to full: how far the "
    "mean score has come from that of the run without an image (0%) to that of the run with all "
    "visual tokens (100%). Each benchmark's own number has its usual name and scale. In brackets "
    f"95% bootstrap intervals: {DRAWS} times the questions were drawn with replacement, one by "
    "one, the same draws for all runs of a benchmark, so that shares are paired. They hold the "
    "model fixed and speak of the questions alone."
)


def seconds_text(seconds: float | None) -> str:
    """Returns the time of a question in seconds; a dash if it is not known."""
    return "-" if seconds is None else f"{seconds:.3f}" if seconds < 1 else f"{seconds:.1f}"


def common_lines(runs: Sequence[Run]) -> list[str]:
    """Returns the known machines, versions and settings, each with its runs."""
    lines = []
    for kind in ("machine", "versions", "settings"):
        groups: dict[str, list[Run]] = {}
        for run in runs:
            groups.setdefault(getattr(run.made, kind), []).append(run)
        for value, members in groups.items():
            whose = "all runs" if len(groups) == 1 else _names(members, runs)
            lines += [f"{kind.capitalize()}: {value} ({whose})"] if value else []
    return lines


def _names(members: Sequence[Run], runs: Sequence[Run]) -> str:
    """Returns the names of runs; a method and budget stands for all its benchmarks."""
    members_by_id = {id(run) for run in members}
    names = []
    for run in members:
        same = [one for one in runs if (one.model, one.label) == (run.model, run.label)]
        whole = all(id(one) in members_by_id for one in same)
        names.append(run.label if whole else f"{BENCHMARKS[run.benchmark]} {run.label}")
    return "; ".join(dict.fromkeys(names))

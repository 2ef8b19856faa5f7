"""Result files, read and checked: each is one run of a model over a benchmark."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from llava.budgets import count_kept
from llava.errors import UserError
from llava.eval.cost import Cost, read_cost
from llava.eval.report.circumstances import Circumstances, one_line, read_circumstances
from llava.files import read_text

BENCHMARKS = {  # in the paper's order
    "mme": "MME",
    "mmbench": "MMBench",
    "pope": "POPE",
    "mmvp": "MMVP",
    "seed": "SEED-Bench",
    "gqa": "GQA",
    "flickr": "Flickr30k",
}
UNBOUNDED = {"flickr"}  # CIDEr of one caption may exceed 1
FULL, PRUNE, ACCM, FLOOR = "full", "prune", "accm", "no image"
_METHOD_ORDER = (FULL, ACCM, PRUNE)
_UNKNOWN_MODEL = "unknown model"
_LARGEST = 1e300  # limit of a main number; also excludes infinity and NaN
_RESCORE = "score the answers again with python -m llava.eval.score"


@dataclass(frozen=True)
class Run:
    """One result file.

    Attributes:
        path: the file.
        benchmark: one of BENCHMARKS.
        model: name of the model.
        method: FULL, PRUNE, ACCM, FLOOR or another value from the settings.
        tokens: number of visual tokens that the LLM reads; None if the file does not say. Of a
            share, the mean over the questions, rounded.
        share: the share of visual tokens that was asked for, such as 1/9; None if it was a number.
        num_patches: number of visual tokens of the whole image; None if the file does not say.
        main_name: name of the benchmark's own main number.
        main_value: its value, in its own unit.
        scores: score of each question, by its key.
        unanswered: number of questions without an answer, which count as wrong.
        limit: number of questions that the run was limited to; None if it had all.
        dtype: dtype of the model; None if the file does not say.
        device: type of its device; None if the file does not say.
        data_dir: folder of the benchmark's data.
        answers_file: file of the scored answers.
        made: date, machine, versions and speed.
        cost: what a question costs; None if it was not measured.
    """

    path: Path
    benchmark: str
    model: str
    method: str
    tokens: int | None
    num_patches: int | None
    main_name: str
    main_value: float
    scores: Mapping[str, float]
    unanswered: int
    limit: int | None
    dtype: str | None
    device: str | None
    data_dir: Path | None
    answers_file: Path | None
    made: Circumstances
    cost: Cost | None = None
    share: str | None = None

    @property
    def title(self) -> str:
        """The names of benchmark and model, for people."""
        return f"{BENCHMARKS[self.benchmark]}, {self.model}"

    @property
    def label(self) -> str:
        """Method and budget, for people."""
        if self.tokens is None or self.method == FLOOR:
            return self.method
        return f"{self.method} ({budget_text(self)} tokens)"


class Budgeted(Protocol):
    """A run, or a row of a table: its number of tokens, and the share that was asked for."""

    @property
    def tokens(self) -> int | None:
        """As in Run."""

    @property
    def share(self) -> str | None:
        """As in Run."""


def budget_key(one: Budgeted) -> str | int | None:
    """Returns the value by which runs of one budget belong together: of a share, the share."""
    return one.tokens if one.share is None else one.share


def budget_text(one: Budgeted) -> str:
    """Returns a budget in words: the number of tokens, after the share if one was asked for."""
    return f"{one.tokens}" if one.share is None else f"{one.share}, {one.tokens}"


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads the runs of result files, sorted by benchmark and model, most visual tokens first.

    Raises:
        UserError: a file is missing or not a result file, two files are of the same run, or runs
            are over different questions of one benchmark.
    """
    if not paths:
        raise UserError("name at least one result file of python -m llava.eval.score")
    runs = [read_run(path) for path in paths]
    _refuse_different(runs)
    return sorted(runs, key=_place)


def read_run(path: Path) -> Run:
    """Reads one result file.

    Raises:
        UserError: it is missing, not JSON, or not a file that the scorer writes.
    """
    try:
        result = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): {_RESCORE} --json FILE") from error
    if not isinstance(result, dict) or not {"benchmark", "main_number", "questions"} <= set(result):
        raise UserError(
            f"{path} is no result file (it lacks benchmark, main_number or questions): {_RESCORE}"
        )
    benchmark = result["benchmark"]
    if benchmark not in list(BENCHMARKS):  # a list: the value may be of any type
        known = ", ".join(BENCHMARKS)
        raise UserError(f"{path}: unknown benchmark {reprlib.repr(benchmark)}; known are {known}")
    main_name, main_value = _main_number(result["main_number"], path)
    data_dir, answers_file = (
        None if (name := _optional(result, key, str, "a path", path)) is None else Path(name)
        for key in ("data_dir", "answers_file")
    )
    return Run(
        path=path,
        benchmark=benchmark,
        main_name=main_name,
        main_value=main_value,
        scores=_scores(result["questions"], benchmark, path),
        unanswered=len(_optional(result, "missing", list, "a list of questions", path) or ()),
        limit=_optional(result, "limit", int, "a number of questions", path),
        data_dir=data_dir,
        answers_file=answers_file,
        made=read_circumstances(result.get("settings"), answers_file),
        cost=None if answers_file is None else read_cost(answers_file),
        **_settings(result.get("settings"), result.get("mean_visual_token_num"), path),
    )


def _main_number(value: object, path: Path) -> tuple[str, float]:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise UserError(f"{path}: main_number is not an object with name and value: {_RESCORE}")
    number: Any = value.get("value")
    if not _is_number(number) or not -_LARGEST < number < _LARGEST:
        raise UserError(
            f"{path}: the value of main_number is {reprlib.repr(number)}, not a number: {_RESCORE}"
        )
    return one_line(value["name"]), float(number)


def _scores(value: object, benchmark: str, path: Path) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise UserError(f"{path}: questions is not an object with a score a question: {_RESCORE}")
    highest = _LARGEST if benchmark in UNBOUNDED else 1
    for key, score in value.items():
        if not _is_number(score) or not 0 <= score <= highest:
            raise UserError(
                f"{path}: question {reprlib.repr(key)} has the score {reprlib.repr(score)}, not a "
                f"number from 0 to {highest:g}: {_RESCORE}"
            )
    return {key: float(score) for key, score in value.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))  # true and false count as 1 and 0


def _optional(values: dict, name: str, kind: type, meaning: str, path: Path, place: str = ""):
    """Returns an optional value; a number must be whole and above zero."""
    value = values.get(name)
    if value is not None and (type(value) is not kind or (kind is int and values[name] < 1)):
        raise UserError(
            f"{path}: {name}{place} is {reprlib.repr(value)}, not {meaning}: {_RESCORE}"
        )
    return value


def _settings(value: object, mean: object, path: Path) -> dict:
    """Returns model, method, budget and computation; without settings, from the file's name."""
    if value is None:
        unknown = dict.fromkeys(("tokens", "num_patches", "dtype", "device"))
        return unknown | dict(model=_UNKNOWN_MODEL, method=one_line(path.stem))
    names = ("model_id", "method")
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in names):
        raise UserError(f"{path}: settings is not an object with model_id and method: {_RESCORE}")
    setting = partial(_optional, value, path=path, place=" in settings")
    num_patches = setting("num_patches", int, "a number of tokens")
    method, share = value["method"], None
    tokens: int | None
    if method == FLOOR:
        tokens = 0
    elif method == FULL and num_patches is not None:
        tokens = num_patches
    elif isinstance(value.get("visual_token_num"), str):
        share = one_line(value["visual_token_num"])
        tokens = _tokens_of(share, mean, num_patches)
    else:
        tokens = setting("visual_token_num", int, "a number of tokens")
    if tokens is None:
        raise UserError(f"{path}: settings does not say visual_token_num: {_RESCORE}")
    computed = {name: setting(name, str, "a text") for name in ("dtype", "device")}
    computed = {name: text and one_line(text) for name, text in computed.items()}
    model, method = one_line(value["model_id"]), one_line(method)
    budget = dict(tokens=tokens, share=share, num_patches=num_patches)
    return computed | budget | dict(model=model, method=method)


def _tokens_of(share: str, mean: object, num_patches: int | None) -> int | None:
    """Returns the rounded mean K of a share; without a mean, K of an image; None if unknown."""
    if isinstance(mean, float) and 0 < mean < _LARGEST:
        return max(1, round(mean))
    try:
        return None if num_patches is None else count_kept(share, num_patches)
    except ValueError:
        return None


def _refuse_different(runs: Sequence[Run]) -> None:
    """Refuses runs of one benchmark with different limits or questions, and the same run twice."""
    first: dict[str, Run] = {}
    seen: dict[tuple, Run] = {}
    for run in runs:
        name, other = BENCHMARKS[run.benchmark], first.setdefault(run.benchmark, run)
        if run.limit != other.limit:
            asked = [f"the first {r.limit}" if r.limit else "all" for r in (other, run)]
            raise UserError(
                f"{other.path} was asked {asked[0]} of {name}'s questions and {run.path} "
                f"{asked[1]} (--limit): compare runs of one limit"
            )
        twin = seen.setdefault((run.benchmark, run.model, run.method, budget_key(run)), run)
        if twin is not run and twin.path.resolve() == run.path.resolve():
            raise UserError(f"{run.path} is named twice: name it once")
        if twin is not run:
            raise UserError(
                f"{twin.path} and {run.path} are the same run ({name}, {run.model}, {run.label}): "
                "leave one out"
            )
        differing = sorted(run.scores.keys() ^ other.scores.keys())
        if differing:
            raise UserError(
                f"{other.path} and {run.path} are over different questions of {name} "
                f"({len(other.scores)} and {len(run.scores)}; only one has {differing[0]!r}): "
                "score both against the same data"
            )


def _place(run: Run) -> tuple:
    """Returns a run's sort key in tables: benchmark, model, and falling number of tokens."""
    known = run.method in _METHOD_ORDER
    return (
        list(BENCHMARKS).index(run.benchmark),
        run.model,
        run.method != FULL,
        run.method == FLOOR,
        -(run.tokens or 0),
        _METHOD_ORDER.index(run.method) if known else len(_METHOD_ORDER),
        run.method,
    )

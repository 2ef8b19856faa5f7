"""Questions that one run gets right and another wrong, with their entries in the journals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.eval.benchmarks.registry import reader
from llava.eval.grids import Grid, square_grid
from llava.eval.report.journal import Entry, read_entries
from llava.eval.report.runs import ACCM, BENCHMARKS, FLOOR, FULL, PRUNE, Run, budget_key

ReadQuestions = Callable[[str, Path], Sequence[Question]]
GAP = 0.5  # least difference of scores in a disagreement, also for scores that are not 0 or 1
_SIDE = 240  # pixels; ten for each patch of the 24 in a row
_QUALITY = 80
_DEFAULT_PATCHES = 576


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data: URI, with its description."""

    caption: str
    uri: str


@dataclass(frozen=True)
class Side:
    """One of the two runs: its score, and its answer (None if no journal has it)."""

    run: Run
    score: float
    entry: Entry | None

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Returns the grids of tokens that each show the whole image; nothing if none is known."""
        recorded = self.entry.grids if self.entry is not None else ()
        return recorded or square_grid(self.run.num_patches or _DEFAULT_PATCHES)


@dataclass(frozen=True)
class Case:
    """A question of a disagreement; question is None if the data are missing."""

    key: str
    question: Question | None
    sides: tuple[Side, Side]
    pictures: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Disagreement:
    """Two runs of a benchmark, and the questions on which they disagree.

    Attributes:
        first: one run.
        second: the other.
        better_first: number of questions that the first gets right and the second wrong.
        better_second: the reverse.
        cases: the first few of them, the widest gaps first.
    """

    first: Run
    second: Run
    better_first: int
    better_second: int
    cases: list[Case]


def read_benchmark(benchmark: str, data_dir: Path) -> Sequence[Question]:
    """Reads the questions of a data folder with the benchmark's own reader."""
    return reader(benchmark).read_questions(data_dir)


def find_disagreements(
    runs: Sequence[Run], limit: int, read_questions: ReadQuestions = read_benchmark
) -> tuple[list[Disagreement], list[str]]:
    """Finds the questions on which pairs of runs disagree.

    Args:
        runs: runs from read_runs.
        limit: most questions of a pair to show.
        read_questions: returns a benchmark's questions; tests replace it.

    Returns:
        The disagreements, and notes on omissions.
    """
    found: list[Disagreement] = []
    notes: list[str] = []
    for _, members in itertools.groupby(runs, key=lambda run: run.benchmark):
        pairs = [(pair, _differing(*pair)) for pair in choose_pairs(list(members))]
        wanted: dict[Path, tuple[Run, set[str]]] = {}  # by result file
        for pair, keys in pairs:
            for run in pair:
                wanted.setdefault(run.path, (run, set()))[1].update(keys[:limit])
        details = _Details([one for one in wanted.values() if one[1]], read_questions)
        for (first, second), keys in pairs:
            better = sum(first.scores[key] > second.scores[key] for key in keys)
            cases = [details.case(key, first, second) for key in keys[:limit]]
            found.append(Disagreement(first, second, better, len(keys) - better, cases))
        notes += details.notes
    return found, list(dict.fromkeys(notes))


def choose_pairs(runs: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Pairs ACCM's runs with full runs and those pruned alike; without any, the first two runs.

    Args:
        runs: the runs of one benchmark.
    """
    pairs = []
    for accm in (run for run in runs if run.method == ACCM):
        for other in (run for run in runs if run.model == accm.model):
            is_same = budget_key(other) == budget_key(accm)
            if other.method == FULL or (other.method == PRUNE and is_same):
                pairs.append((other, accm))
    if pairs or len(runs) < 2:
        return pairs
    seeing = [run for run in runs if run.method != FLOOR]
    first, second = (seeing if len(seeing) > 1 else list(runs))[:2]
    return [(first, second)]


def _differing(first: Run, second: Run) -> list[str]:
    """Returns keys of questions with a gap, the widest first, then in the first run's order."""
    gaps = {key: abs(score - second.scores[key]) for key, score in first.scores.items()}
    return sorted((key for key, gap in gaps.items() if gap >= GAP), key=lambda key: -gaps[key])


class _Details:
    """Questions and journals of the runs of one benchmark, each file read once.

    Args:
        wanted: the runs, each with the questions to show.
        read_questions: returns a benchmark's questions.
    """

    def __init__(
        self, wanted: Sequence[tuple[Run, set[str]]], read_questions: ReadQuestions
    ) -> None:
        self.notes: list[str] = []
        self._entries = {run.path: self._read_entries(run, keys) for run, keys in wanted}
        self._questions = self._read_questions([run for run, _ in wanted], read_questions)

    def case(self, key: str, first: Run, second: Run) -> Case:
        """Returns one question of a pair."""
        question = self._question(key, first, second)
        one, other = (
            Side(run, run.scores[key], self._entries[run.path].get(key)) for run in (first, second)
        )
        pictures: tuple[Thumbnail, ...] = ()
        if question is not None:
            try:
                pictures = _thumbnails(question.image, (one, other))
            except UserError as error:
                self.notes.append(f"A picture is left out: {error}.")
        return Case(key, question, (one, other), pictures)

    def _question(self, key: str, *runs: Run) -> Question | None:
        """Returns a question by the data of one of the runs, or else by any that can be read."""
        own = [self._questions[run.data_dir] for run in runs if run.data_dir in self._questions]
        found = (*own, *self._questions.values())
        return next((questions[key] for questions in found if key in questions), None)

    def _read_entries(self, run: Run, keys: set[str]) -> dict[str, Entry]:
        if run.answers_file is None:
            self.notes.append(
                f"{run.path} names no answers file: answers and captions are left out."
            )
            return {}
        try:
            return read_entries(run.answers_file, keys)
        except UserError as error:
            self.notes.append(f"Answers and captions of {run.path} are left out: {error}.")
            return {}

    def _read_questions(
        self, runs: Sequence[Run], read_questions: ReadQuestions
    ) -> dict[Path, dict[str, Question]]:
        """Returns the questions of each data folder that can be read; their pictures may differ."""
        folders = {run.data_dir: run for run in runs if run.data_dir is not None}
        reasons = [] if folders or not runs else ["no result file names a data folder"]
        found = {}
        for folder, run in folders.items():
            try:
                found[folder] = {q.key: q for q in read_questions(run.benchmark, folder)}
            except UserError as error:
                reasons.append(str(error))
        if reasons and not found:
            where = BENCHMARKS[runs[0].benchmark]
            self.notes.append(f"Pictures and questions of {where} are left out: {reasons[0]}.")
        return found


def _thumbnails(image: Path | bytes, sides: Sequence[Side]) -> tuple[Thumbnail, ...]:
    """Returns a picture for each set of kept patches; the plain image if nothing was dropped.

    Raises:
        UserError: the image cannot be read.
    """
    # Imported here because it takes seconds, and a report without images does not need it.
    from llava.eval.figure import data_uri, dim_patches
    from llava.mm_utils import CLIP_BACKGROUND, expand2square, load_image

    picture = load_image(image)
    # As a model of one view sees it; where there are tiles, the base view is not padded.
    padded = expand2square(picture, CLIP_BACKGROUND, _SIDE)
    groups: dict[tuple[tuple[int, ...], tuple[Grid, ...]], list[str]] = {}
    for side in sides:
        kept, grids = side.entry and side.entry.kept, side.grids
        if kept and _is_pruned(kept, grids):
            groups.setdefault((tuple(sorted(kept)), grids), []).append(side.run.label)
    named = {key: "kept by " + " and ".join(names) for key, names in groups.items()}
    whole = tuple(range(_DEFAULT_PATCHES)), square_grid(_DEFAULT_PATCHES)
    thumbnails = []
    for (kept, grids), caption in (named or {whole: "the image"}).items():
        dimmed = dim_patches(picture if len(grids) > 1 else padded, kept, grids, _SIDE)
        thumbnails.append(Thumbnail(caption, data_uri(dimmed, _QUALITY)))
    return tuple(thumbnails)


def _is_pruned(kept: Sequence[int], grids: Sequence[Grid]) -> bool:
    """Returns whether some patches, and not all, of known grids were kept."""
    total = sum(grid.rows * grid.columns for grid in grids)
    return 0 <= min(kept) and max(kept) < total and len(set(kept)) < total

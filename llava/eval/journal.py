"""A run on disk: the answers so far, with their settings; it survives any interruption.

The folder FILE.run is beside the answers file FILE:

    settings.json     what the run depends on; other settings do not continue it
    answers-R.jsonl   outcomes of process R as they came, each line flushed; locked while R works

FILE itself is written at the end, in the order of the questions, from all journals.
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
import reprlib
import statistics
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llava.errors import UserError, quoted
from llava.eval.benchmarks.question import Question
from llava.eval.outcomes import merge_outcomes, read_outcomes, seal
from llava.files import check_target, dump_json, read_json, replacing, take_lock

if TYPE_CHECKING:
    from llava.eval.run import Run

PRODUCTS = "cpu_products"
RESOLVED = "visual_token_num"  # of a trace: K of the image, where it is not the number of settings
# Values of runs from before they were recorded.
_OLDER: dict[str, Any] = {PRODUCTS: "plain", "pruner": "accm", "pruner_options": {}}
_OLDER["compensation_options"] = {}
SHOWN = 5  # most changed settings that a message names


def run_folder(answers_file: Path) -> Path:
    """Returns the folder of the journals of an answers file."""
    return answers_file.with_name(answers_file.name + ".run")


def read_settings(answers_file: Path) -> dict | None:
    """Returns the settings that an answers file was made with; None if they are not beside it.

    Raises:
        UserError: they are damaged.
    """
    path = run_folder(answers_file) / "settings.json"
    advice = "delete it, and how the answers were made will not be said"
    return read_json(path, advice) if path.is_file() else None


def mean_of_share(answers_file: Path, settings: dict | None) -> dict[str, float | None]:
    """Returns mean_visual_token_num, the mean K of the answers of a run that asks for a share.

    It is None if no K is known. Nothing is returned for a run that asks for a number.
    """
    if settings is None or not isinstance(settings.get("visual_token_num"), str):
        return {}
    counts: dict[str, object] = {}
    for path in sorted(run_folder(answers_file).glob("answers-*.jsonl")):
        for outcome in read_outcomes(path):
            if isinstance(outcome, dict) and isinstance(outcome.get("trace"), dict):
                counts[outcome["key"]] = outcome["trace"].get(RESOLVED)
    known = [count for count in counts.values() if isinstance(count, int)]
    return {"mean_visual_token_num": statistics.fmean(known) if known else None}


class Journal(AbstractContextManager):
    """The outcomes of one process, each appended and flushed.

    Attributes:
        damage: errors of the damaged lines that outcomes has read.

    Args:
        answers_file: the file for the answers.
        settings: everything that the run depends on, JSON.
        rank: number of this process.
        elsewhere: how the user chooses another file.

    Raises:
        UserError: another run is working on the file, its settings differ or are damaged, or
            something that no run made is in its place.
    """

    def __init__(
        self,
        answers_file: Path,
        settings: dict,
        rank: int = 0,
        elsewhere: str = "name another --answers-file",
    ) -> None:
        self._answers_file = answers_file
        self._elsewhere = elsewhere
        self.damage: list[str] = []
        self._folder = run_folder(answers_file)
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            check_target(answers_file)
            self._file = self._open(self._folder / f"answers-{rank}.jsonl")
            try:
                self._check_settings(settings, rank)
            except BaseException:
                self._file.close()
                raise
            self._file.seek(0)  # the last line of a killed process may lack its end
            self._file.truncate(self._file.read().rfind(b"\n") + 1)

    def append(self, outcome: dict) -> None:
        """Writes one outcome: {"key": ..., "record": ...} or {"key": ..., "error": ...}.

        Raises:
            UserError: the disk is full or gone; written lines stay, and the run can continue later.
            ValueError: it has a number that is not finite, or a text that is not Unicode.
        """
        line = (seal(outcome) + "\n").encode()
        with disk_errors(self._folder):
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def outcomes(self) -> dict[str, dict]:
        """Returns the outcomes of all questions in the journals of this machine's disk."""
        lines = [
            line
            for path in sorted(self._folder.glob("answers-*.jsonl"))
            for line in read_outcomes(path)
        ]
        self.damage = [line for line in lines if isinstance(line, str)]
        return merge_outcomes(line for line in lines if not isinstance(line, str))

    def publish(self, records: Iterable[dict]) -> None:
        """Writes the answers file, whole or not at all.

        A file with the same content stays as it is, its time included: files made from it stay up
        to date.
        """
        partial = self._folder / "answers.partial"
        with disk_errors(self._folder):
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(dump_json(record) + "\n" for record in records)
            target = self._answers_file.resolve()
            if target.is_file() and filecmp.cmp(partial, target, shallow=False):
                partial.unlink()
            else:
                os.replace(partial, target)

    def close(self) -> None:
        """Closes and unlocks the journal."""
        self._file.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, path: Path) -> BinaryIO:
        """Opens and locks a journal; the lock ends with the process, however that ends."""
        file = path.open("ab+", buffering=0)
        if not take_lock(file):
            file.close()
            raise UserError(
                f"another run is at work on {self._answers_file}: wait for it, or {self._elsewhere}"
            )
        return file

    def _check_settings(self, settings: dict, rank: int) -> None:
        """Refuses settings other than those on disk.

        Settings of a run without outcomes do not count: it may have ended because of them.
        """
        path = self._folder / "settings.json"
        settings = json.loads(dump_json(settings))
        if not any(journal.stat().st_size for journal in self._folder.glob("answers-*.jsonl")):
            if self._answers_file.exists() and not path.is_file():
                raise UserError(
                    f"{self._answers_file} is there already, and no run of this project made it: "
                    f"{self._elsewhere}, or move it away"
                )
            # Processes that share a disk write the same, each under its own temporary name.
            with replacing(path, self._folder / f"settings-{rank}.partial") as partial:
                partial.write_text(dump_json(settings, indent=2) + "\n", encoding="utf-8")
            return
        again = f"{self._elsewhere}, or delete {self._folder} and the file to begin again"
        if not path.is_file():
            raise UserError(f"how {self._answers_file} was begun is lost with {path}: {again}")
        before, settings = _OLDER | read_json(path, again), _OLDER | settings
        # Older runs have it in the method's name and in the checkpoints.
        before.setdefault("compensation", settings.get("compensation"))
        was, now = before[PRODUCTS], settings[PRODUCTS]
        if was != now and settings.get("dtype") == "float32" == before.get("dtype"):
            if rank == 0:
                warnings.warn(
                    f"{self._answers_file} was begun with {PRODUCTS} {reprlib.repr(was)} and goes "
                    f"on with {now!r}: in float32 the last digits of numbers change, answers do not"
                )
            before[PRODUCTS] = was = now
        if was != now:
            known = was if was in ("plain", "packed") else "auto, on such a processor as then"
            again = f"go on with --cpu-products {known}, {again}"
        changed = _changes(before, settings)
        if changed:
            listed = "; ".join(changed[:SHOWN]) + ("; ..." if len(changed) > SHOWN else "")
            raise UserError(
                f"{self._answers_file} was begun with other settings: {listed}. "
                f"{again[0].upper()}{again[1:]}"
            )


def _changes(before: dict, settings: dict) -> list[str]:
    """Returns the settings that differ, each with its old and its new value.

    In groups (checkpoints, versions) only the entries of this run count: a run that reads one
    checkpoint less than an older version did no longer depends on it.
    """
    pairs: list[tuple[str, object, object]] = []
    for name in sorted(before.keys() | settings.keys()):
        was, now = before.get(name), settings.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            pairs += [(f"{name}.{part}", was.get(part), value) for part, value in now.items()]
        else:
            pairs.append((name if name in settings else reprlib.repr(name), was, now))
    return [
        f"{name} was {reprlib.repr(was)} and is {reprlib.repr(now)}"
        for name, was, now in pairs
        if was != now
    ]


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns errors of the disk into one message for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write in {path} ({error.strerror}): make room or write elsewhere; what was "
            "answered is kept, and the same command goes on from there"
        ) from error


def check_images(run: Run, outcomes: Mapping[str, dict]) -> None:
    """Refuses to continue a run whose answers are about other images of the same names.

    Raises:
        UserError: an image has another size than when its question was answered.
    """
    for question in run.questions:
        before = outcomes.get(question.key, {}).get("asked", {}).get("image_bytes")
        now = image_bytes(question)
        if None not in (before, now) and before != now:
            raise UserError(
                f"{run.answers_file} was begun with other images: that of question "
                f"{quoted(question.key)} had {before} bytes and has {now}. Give the earlier folder,"
                f" or {run.elsewhere}"
            )


def image_bytes(question: Question) -> int | None:
    """Returns the size of a question's image in bytes; None if it no longer exists."""
    if isinstance(question.image, bytes):
        return len(question.image)
    try:
        return question.image.stat().st_size
    except (OSError, ValueError):
        return None

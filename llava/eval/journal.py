"""A run on disk: what was answered so far, with which settings; survives any interruption.

Beside the answers file FILE stands the folder FILE.run:

    settings.json     what the run depends on; other settings do not continue it
    answers-R.jsonl   outcomes of process R as they came, each line flushed; locked while R works

FILE itself is written at the end, in the order of the questions, from all journals.
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from llava.errors import UserError
from llava.eval.lines import read_lines
from llava.files import check_target, read_json, take_lock


def run_folder(answers_file: Path) -> Path:
    """Where the journals of an answers file lie."""
    return answers_file.with_name(answers_file.name + ".run")


def read_settings(answers_file: Path) -> dict | None:
    """The settings that an answers file was made with; None where they do not stand beside it."""
    path = run_folder(answers_file) / "settings.json"
    return read_json(path) if path.is_file() else None


class Journal:
    """The outcomes of one process, appended and flushed as they come.

    Args:
        answers_file: where the answers will go.
        settings: what the run depends on, JSON.
        rank: number of this process.

    Raises:
        UserError: another run is at work on the file, its settings are others, or something that
            no run made stands in its place.
    """

    def __init__(self, answers_file: Path, settings: dict, rank: int = 0) -> None:
        self._answers_file = answers_file
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
            _drop_half_line(self._file)

    def append(self, outcome: dict) -> None:
        """Writes one outcome: {"key": ..., "record": ...} or {"key": ..., "error": ...}.

        Raises:
            UserError: the disk is full or gone; what is there stays, and the run can go on later.
        """
        line = (json.dumps(outcome) + "\n").encode()
        with disk_errors(self._folder):
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def outcomes(self) -> dict[str, dict]:
        """The outcomes of all questions in the journals of this machine's disk."""
        return merge_outcomes(
            value
            for path in sorted(self._folder.glob("answers-*.jsonl"))
            for _, value in read_lines(path)
        )

    def publish(self, records: Iterable[dict]) -> None:
        """Writes the answers file, whole or not at all. One that says the same stays as it is, its
        time included: what was made of it is not out of date."""
        partial = self._folder / "answers.partial"
        with disk_errors(self._folder):
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
            target = self._answers_file.resolve()
            if target.is_file() and filecmp.cmp(partial, target, shallow=False):
                partial.unlink()
            else:
                os.replace(partial, target)

    def close(self) -> None:
        """Lets go of the journal."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, path: Path) -> BinaryIO:
        """Opens and locks a journal; the lock goes with the process, however it ends."""
        file = path.open("ab+", buffering=0)
        if not take_lock(file):
            file.close()
            raise UserError(
                f"another run is at work on {self._answers_file}: wait for it, or name another "
                "--answers-file"
            )
        return file

    def _check_settings(self, settings: dict, rank: int) -> None:
        """Compares with the settings that are there. Those of a run without outcomes do not count:
        it may have ended because of them."""
        path = self._folder / "settings.json"
        settings = json.loads(json.dumps(settings))
        begun = any(journal.stat().st_size for journal in self._folder.glob("answers-*.jsonl"))
        if not path.is_file() or not begun:
            if self._answers_file.exists() and not path.is_file():
                raise UserError(
                    f"{self._answers_file} is there already, and no run of this project made it: "
                    "name another --answers-file, or move it away"
                )
            # Processes that share a disk write the same; each under a name of its own.
            partial = self._folder / f"settings-{rank}.partial"
            partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            os.replace(partial, path)
            return
        before = read_json(path)
        changed = [
            f"{name} was {before.get(name)!r} and is {settings.get(name)!r}"
            for name in sorted(before.keys() | settings.keys())
            if before.get(name) != settings.get(name)
        ]
        if changed:
            raise UserError(
                f"{self._answers_file} was begun with other settings: {'; '.join(changed)}. Name "
                f"another --answers-file, or delete {self._folder} and the file to begin again"
            )


def merge_outcomes(values: Iterable[object]) -> dict[str, dict]:
    """The outcome of each question: the last answer, or the last error where there is no answer.

    What is no outcome (a line that an interruption left behind) is passed over, so that its
    question is asked again.
    """
    merged: dict[str, dict] = {}
    for value in values:
        if not isinstance(value, Mapping) or not isinstance(value.get("key"), str):
            continue
        answered = isinstance(value.get("record"), Mapping)
        failed = isinstance(value.get("error"), str) and "record" not in value
        if answered or (failed and "record" not in merged.get(value["key"], {})):
            merged[value["key"]] = dict(value)
    return merged


def _drop_half_line(file: BinaryIO) -> None:
    """Cuts off what a killed process had written of its last line."""
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the disk says into one message for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write in {path} ({error.strerror}): make room or write elsewhere; what was "
            "answered is kept, and the same command goes on from there"
        ) from error

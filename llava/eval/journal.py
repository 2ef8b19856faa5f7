"""A run on disk: what was answered so far, with which settings; survives any interruption.

Beside the answers file FILE stands the folder FILE.run:

    settings.json     what the run depends on; another run's settings refuse to continue it
    answers-R.jsonl   outcomes of process R as they came, each line flushed
    lock              held while a run is at work

FILE itself is written at the end, in the order of the questions, from all journals.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from llava.errors import UserError
from llava.files import read_json, write_json


class Journal:
    """The outcomes of one process, appended and flushed as they come.

    Args:
        answers_file: where the answers will go.
        settings: what the run depends on, JSON.
        rank: number of this process.
        leader: whether this process holds the lock and writes the settings on its machine.

    Raises:
        UserError: another run is at work on the file, or its settings are others.
    """

    def __init__(
        self, answers_file: Path, settings: dict, rank: int = 0, leader: bool = True
    ) -> None:
        self._answers_file = answers_file
        self._folder = answers_file.with_name(answers_file.name + ".run")
        self._lock: BinaryIO | None = None
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            if leader:
                self._lock = self._take_lock()
                self._check_settings(settings)
            path = self._folder / f"answers-{rank}.jsonl"
            _drop_half_line(path)
            self._file = path.open("ab", buffering=0)

    def append(self, outcome: dict) -> None:
        """Writes one outcome: {"key": ..., "record": ...} or {"key": ..., "error": ...}.

        Raises:
            UserError: the disk is full or gone; what is there stays, and the run can go on later.
        """
        line = (json.dumps(outcome) + "\n").encode()
        with disk_errors(self._folder):
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")

    def outcomes(self) -> dict[str, dict]:
        """The last outcome of every question that any process of any run on this file had."""
        found: dict[str, dict] = {}
        for path in sorted(self._folder.glob("answers-*.jsonl")):
            # A half-written last line (of a process that was killed) has no newline.
            for line in path.read_bytes().split(b"\n")[:-1]:
                outcome = json.loads(line)
                # An error does not undo an answer that another process has.
                if "record" in outcome or "record" not in found.get(outcome["key"], {}):
                    found[outcome["key"]] = outcome
        return found

    def publish(self, records: Iterable[dict]) -> None:
        """Writes the answers file, whole or not at all."""
        partial = self._folder / "answers.partial"
        with disk_errors(self._folder):
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
            os.replace(partial, self._answers_file)

    def close(self) -> None:
        self._file.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take_lock(self) -> BinaryIO:
        lock = (self._folder / "lock").open("wb")
        try:
            fcntl.flock(
                lock, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # goes with the process, however it ends
        except BlockingIOError as error:
            lock.close()
            raise UserError(
                f"another run is at work on {self._answers_file}: wait for it, or name another "
                "--answers-file"
            ) from error
        return lock

    def _check_settings(self, settings: dict) -> None:
        path = self._folder / "settings.json"
        settings = json.loads(json.dumps(settings))
        if not path.is_file():
            write_json(path, settings)
            return
        before = json.loads(path.read_text("utf-8"))
        changed = [
            f"{name} was {before.get(name)!r} and is {settings.get(name)!r}"
            for name in sorted(before.keys() | settings.keys())
            if before.get(name) != settings.get(name)
        ]
        if changed:
            raise UserError(
                f"{self._answers_file} was begun with other settings: {'; '.join(changed)}. Name "
                f"another --answers-file, or delete {self._folder} to begin again"
            )


def _drop_half_line(path: Path) -> None:
    """Cuts off what a killed process had written of its last line."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


class disk_errors:
    """Turns what the disk says into one message for the user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error: BaseException | None, trace) -> None:
        if isinstance(error, OSError):
            raise UserError(
                f"cannot write in {self._path} ({error.strerror}): make room or write elsewhere; "
                "what was answered is kept, and the same command goes on from there"
            ) from error


def read_settings(answers_file: Path) -> dict | None:
    """The settings that an answers file was made with; None where they do not stand beside it."""
    path = answers_file.with_name(answers_file.name + ".run") / "settings.json"
    return read_json(path) if path.is_file() else None

"""The output folder of a run: one run at a time, and always with the settings it began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

from llava.errors import UserError
from llava.files import read_json, take_lock, write_json
from llava.train.checkpoints import clear_unfinished, disk_errors, list_checkpoints


class RunFolder:
    """A folder that this process alone trains into, until it closes it.

    Args:
        path: made if it is not there.
        settings: what the result depends on, JSON.

    Raises:
        UserError: another process is at work in it, it was begun with other settings, or it cannot
            be written.
    """

    def __init__(self, path: Path, settings: dict) -> None:
        self.path = path
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / "lock").open("ab")
        try:
            self._take_lock()
            clear_unfinished(path)
            self._check_settings(json.loads(json.dumps(settings)))
        except BaseException:
            self.close()
            raise

    @property
    def newest(self) -> Optional[Path]:
        """The newest checkpoint."""
        return next(reversed(list_checkpoints(self.path)), None)

    def close(self) -> None:
        """Lets another process in; so does the end of this one, however it ends."""
        self._lock.close()

    def _take_lock(self) -> None:
        if not take_lock(self._lock):
            raise UserError(
                f"another run trains into {self.path}: wait for it, or name another --output-dir"
            )

    def _check_settings(self, settings: dict) -> None:
        """Compares with those of the run that is there; one without checkpoints does not count."""
        path = self.path / "settings.json"
        if self.newest is None:
            if (self.path / "loss.jsonl").exists() and not path.is_file():
                raise UserError(
                    f"{self.path} holds a loss.jsonl that no run of this project made: name "
                    "another --output-dir"
                )
            write_json(path, settings)
            return
        before = read_json(path)
        changed = [
            f"{name} was {before.get(name)!r}, now {settings.get(name)!r}"
            for name in sorted(before.keys() | settings.keys())
            if before.get(name) != settings.get(name)
        ]
        if changed:
            raise UserError(
                f"{self.path} was begun with other settings: {'; '.join(changed)}. Name another "
                "--output-dir, or delete this one to begin again"
            )

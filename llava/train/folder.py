"""The output folder of a run: one run at a time, and always with the settings it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from llava.errors import UserError
from llava.files import take_lock
from llava.train.arguments import TrainArguments
from llava.train.checkpoints import clear_unfinished, disk_errors, list_checkpoints
from llava.train.settings import keep_settings


class RunFolder:
    """A folder that this process alone writes into, from before the first byte until it closes it.

    Args:
        path: made if it is not there.

    Raises:
        UserError: another process is at work in it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / "lock").open("ab")
        try:
            if not take_lock(self._lock):
                raise UserError(
                    f"another run trains into {path}: wait for it, or name another --output-dir"
                )
            clear_unfinished(path)
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

    def begin(self, settings: dict, args: TrainArguments) -> None:
        """Compares the settings with those of the run that is there, and keeps them.

        Args:
            settings: what the result depends on, JSON.
            args: of the stage.

        Raises:
            UserError: it was begun with others; one without checkpoints does not count.
        """
        path = self.path / "settings.json"
        if self.newest is None:
            if (self.path / "loss.jsonl").exists() and not path.is_file():
                raise UserError(
                    f"{self.path} holds a loss.jsonl that no run of this project made: name "
                    "another --output-dir"
                )
            path.unlink(missing_ok=True)
        keep_settings(
            path, settings, args, "Name another --output-dir, or delete this one to begin again"
        )

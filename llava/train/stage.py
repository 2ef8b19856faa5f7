"""A running stage: its flags are checked, its processes are connected, and its folder is locked.

One run at a time trains into a folder, always with the settings of its start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from llava.errors import UserError
from llava.files import read_json, take_lock
from llava.train.arguments import TrainArguments, check_arguments
from llava.train.checkpoints import clear_unfinished, disk_errors, list_checkpoints, read_state
from llava.train.distributed import Team
from llava.train.settings import keep_settings
from llava.train.step import has_begun_as


class RunFolder:
    """A folder that only this process writes into, from before the first byte until it closes it.

    Args:
        path: created if it does not exist.

    Raises:
        UserError: another process is using it, or it cannot be written.
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
        """The newest checkpoint; None where there is none."""
        return next(reversed(list_checkpoints(self.path)), None)

    def close(self) -> None:
        """Releases the lock; the end of this process, however it ends, releases it too."""
        self._lock.close()

    def begin(self, settings: dict, args: TrainArguments) -> None:
        """Compares the settings with those of the run in this folder, and keeps them.

        The number of steps may change if all steps done so far would be the same.

        Args:
            settings: all that the result depends on, JSON.
            args: of the stage.

        Raises:
            UserError: the run has others; a run without checkpoints does not count.
        """
        path = self.path / "settings.json"
        if self.newest is None:
            if (self.path / "loss.jsonl").exists() and not path.is_file():
                raise UserError(
                    f"{self.path} holds a loss.jsonl that no run of this project made: name "
                    "another --output-dir"
                )
            path.unlink(missing_ok=True)
        why_not = self._why_not_as_long(path, settings, args)
        keep_settings(
            path,
            settings,
            args,
            why_not or "Name another --output-dir, or delete this one to begin again",
            () if why_not else ("max_steps",),
        )

    def _why_not_as_long(self, path: Path, settings: dict, args: TrainArguments) -> Optional[str]:
        """Explains why a run cannot continue to a number of steps other than planned.

        The text ends with the way out; None where the run can continue, or does not have to.
        """
        before = read_json(path).get("max_steps") if path.is_file() else None
        steps, newest = settings["max_steps"], self.newest
        if newest is None or not isinstance(before, int) or before == steps:
            return None
        begun = read_state(newest)["step"]
        if has_begun_as(steps, begun, before, args):
            return None
        if begun > steps:
            return (
                f"{begun} steps are done, and none can be taken back: give --max-steps {begun} or"
                " more, or name another --output-dir"
            )
        return (
            f"With --schedule {args.schedule} the learning rate falls to 0 at the last step, so "
            f"the {begun} steps that are done are not those of a run of {steps}: give"
            f" --max-steps {before}, or name another --output-dir (a run with --schedule constant"
            " can be made longer)"
        )


@dataclass(frozen=True)
class Stage:
    """The resources of a running stage.

    Attributes:
        name: of the stage.
        args: its flags, checked.
        team: the processes.
        folder: the output folder, locked; only the first process has it.
    """

    name: str
    args: TrainArguments
    team: Team
    folder: Any  # a RunFolder; None on all processes but the first


def check_given(args: TrainArguments, *names: str) -> None:
    """Refuses flags of which one that a stage needs is missing.

    Raises:
        UserError: names all of them.
    """
    if any(getattr(args, name) is None for name in names):
        *flags, last = [f"--{name.replace('_', '-')}" for name in names]
        raise UserError(f"name {', '.join(flags)} and {last}")


@contextmanager
def open_stage(name: str, args: TrainArguments) -> Iterator[Stage]:
    """Opens a stage, before anything is read or written.

    Raises:
        UserError: a flag is wrong, a process is missing, or another run trains into the
            output folder.
    """
    check_arguments(args)
    team = Team(args.device)
    if team.count > 1 and getattr(args, "device_map", None) is not None:
        raise UserError(
            f"--device-map would spread each of {team.count} processes over the GPUs of the "
            "others: leave it out, or start one process"
        )
    with team.first_opens(lambda: RunFolder(Path(args.output_dir))) as folder:
        yield Stage(name, args, team, folder)

"""Long work on numbered samples, a JSON line each, that resumes where it was stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from llava.errors import UserError
from llava.files import system_errors
from llava.train.arguments import TrainArguments
from llava.train.settings import keep_settings
from llava.utils.jsonl import read_lines
from llava.utils.stopping import noting_what_is_kept

Work = Callable[[list[int]], list[dict]]


def resumable(
    path: Path,
    total: int,
    batch_size: int,
    begin: Callable[[], Work],
    what: str,
    settings: dict,
    args: TrainArguments,
) -> list[dict]:
    """Returns the results of samples 0 to total - 1, computing those that the file lacks.

    Args:
        path: of JSON lines, in a folder that this run has locked; a last line that was cut off
            is computed again.
        total: number of samples.
        batch_size: samples per batch.
        begin: loads what the work needs, and returns work(numbers) -> results; called only where
            something is left to do.
        what: name in the progress bar.
        settings: all that the results depend on, JSON; kept beside the file.
        args: of the stage.

    Raises:
        UserError: the file cannot be written (its contents stay then); it was begun with other
            or unknown settings; or a line is damaged.
    """
    _check_settings(path, settings, args)
    results = _complete_lines(path)[:total]
    if len(results) == total:
        return results
    if results:
        print(f"{path}: {len(results)} of {total} {what} before; going on", file=sys.stderr)
    work = begin()
    with (
        system_errors(f"write {path}", "make room; the same command goes on"),
        path.open("a", encoding="utf-8") as file,
        noting_what_is_kept(lambda: f"{len(results)} of {total} {what} are kept in {path}"),
    ):
        bar = tqdm(total=total, desc=what, unit="sample", initial=len(results))
        while len(results) < total:
            numbers = list(range(len(results), min(len(results) + batch_size, total)))
            made = work(numbers)
            file.write("".join(json.dumps(result) + "\n" for result in made))
            file.flush()
            results += made
            bar.update(len(made))
    return results


def _check_settings(path: Path, settings: dict, args: TrainArguments) -> None:
    mark = path.with_suffix(".settings.json")
    way_out = f"Name another --output-dir, or delete {path.name} and {mark.name} to begin again"
    if path.is_file() and not mark.is_file():
        raise UserError(f"nothing says what {path} was made with ({mark} is not there). {way_out}")
    keep_settings(mark, settings, args, way_out)


def _complete_lines(path: Path) -> list[dict]:
    """Returns the complete lines of a file, and cuts the file after the last one."""
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    results: list[dict] = []
    for number, value in read_lines(path):
        line = len(results) + 1
        if isinstance(value, str) or number != line:  # another number: there is an empty line
            raise UserError(
                f"{path}, line {line} is damaged: delete this line and all behind it, or the file"
            )
        results.append(value)
    return results

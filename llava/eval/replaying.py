"""Recorded cases of published pruners, run one by one."""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from llava.errors import UserError, quoted
from llava.files import dump_json, printable, read_json, write_text, write_whole
from llava.model.token_pruning.choice import Choice
from llava.model.token_pruning.options import settings_of
from llava.model.token_pruning.published import PublishedPruner, find_published
from llava.utils.cli import SOME_FAILED

# The axes of each array of an image: N patches, S = N + 1 with the CLS token, others as they come;
# of the LLM's input L positions.
AXES = {
    "hidden": "SC",
    "attn_cls": "HS",
    "attn_cls_mid": "HS",
    "attn_mean_deep": "S",
    "attn_mean_mid": "S",
    "keys": "SC",
    "query_cls": "C",
    "projected": "ND",
    "image_embeds": "NP",
    "text_embeds": "MP",
    "llm_text": "TD",
    "llm_attn": "HTL",
    "llm_hidden": "LE",
    "llm_keys": "LE",
    "llm_queries": "GE",
}


class Recorded:
    """The arrays of an .npz file, read when they are needed.

    Args:
        path: the file.
        what: names it in errors.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, path: Path, what: str = "inputs") -> None:
        self._what = what
        try:
            self._file = np.load(path, allow_pickle=False)
            self.names = frozenset(self._file.files)
        except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"cannot read {path} as an .npz file: check the path") from error
        self.read = lru_cache(maxsize=16)(self._read)

    def _read(self, name: str) -> np.ndarray:
        """Returns an array of finite numbers.

        Raises:
            UserError: there is none of that name, or it is damaged or not of finite numbers.
        """
        if name not in self.names:
            raise UserError(f"the {self._what} have no array {quoted(name)}")
        try:
            values = self._file[name]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"the array {name} of the {self._what} is damaged") from error
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise UserError(f"the array {name} of the {self._what} is not of finite numbers")
        return values


def replay_cases(
    cases_file: Path, inputs: Path, output: Path, arrays_file: Path | None, is_float64: bool
) -> int:
    """Replays all cases and writes what their methods choose.

    Args:
        cases_file, inputs: the recorded cases, and their arrays.
        output: for a line of JSON for each case.
        arrays_file: for merged tokens; None writes none.
        is_float64: whether to compute in float64.

    Returns:
        The exit status: 0, or SOME_FAILED if a line is an error.

    Raises:
        UserError: a file cannot be read or written.
    """
    cases = read_json(cases_file).get("cases")
    if not isinstance(cases, list):
        raise UserError(f"{cases_file} has no list under cases: name a file of recorded cases")
    recorded = Recorded(inputs)
    lines: list[dict] = []
    arrays: dict[str, Any] = {}
    for case in tqdm(cases, "cases", unit="case", smoothing=0):
        name = case.get("id") if isinstance(case, dict) else None
        try:
            choice = replay_case(case, recorded, torch.float64 if is_float64 else torch.float32)
        except UserError as error:
            lines.append({"id": name, "error": printable(error)})
            continue
        lines.append({"id": name} | as_record(choice))
        arrays |= {f"{name}/{key}": value.float().numpy() for key, value in choice.arrays.items()}
    if arrays_file is not None:
        write_whole(arrays_file, lambda file: np.savez(file, **arrays))
    return write_lines(output, lines)


def write_lines(output: Path, lines: Sequence[dict]) -> int:
    """Writes the lines of all cases; returns the exit status, SOME_FAILED if one is an error.

    Raises:
        UserError: they cannot be written there.
    """
    write_text(output, "".join(dump_json(line) + "\n" for line in lines))
    failed = sum("error" in line for line in lines)
    print(f"{len(lines)} cases, {failed} of them errors: {output}", file=sys.stderr)
    return SOME_FAILED if failed else 0


def replay_case(case: object, recorded: Recorded, dtype: torch.dtype) -> Choice:
    """Returns what the method of a case chooses.

    Raises:
        UserError: the case names what is not known, or its method cannot do it.
    """
    if not isinstance(case, dict) or not isinstance(case.get("id"), str):
        raise UserError("a case must be an object with an id")
    pruner = find_published(case.get("method"))
    if case.get("variant", "") not in pruner.variants:
        known = ", ".join(quoted(variant) for variant in pruner.variants)
        raise UserError(f"{pruner.name} has no variant {quoted(case['variant'])}: use {known}")
    budget, settings = case.get("budget"), case.get("settings", {})
    if budget is not None and type(budget) is not int:
        raise UserError(f"the budget is {quoted(budget)}; it must be a whole number or null")
    if not isinstance(settings, dict):
        raise UserError("the settings must be an object")
    options = settings_of(pruner.options, _as_published(pruner, settings, case.get("n")))
    arrays = dict(_arrays_of(case, pruner, recorded))
    _check_axes(arrays, case.get("n"))
    x = {name: torch.from_numpy(values).to(dtype)[None] for name, values in arrays.items()}
    try:
        return pruner.choose(x, budget, options)[0]
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        # Another's method may fail on an input as recorded public code does, with its own error.
        raise UserError(
            f"{pruner.name} fails: {type(error).__name__}: {quoted(str(error))}"
        ) from error


def as_record(choice: Choice) -> dict:
    """Returns a choice as the line of a case has it."""
    kept, picked = choice.kept.tolist(), choice.picked
    return {
        "kept": kept,
        "picked": None if picked is None else picked.tolist(),
        "n_out": len(kept) if choice.num_out is None else choice.num_out,
    }


def _as_published(
    pruner: PublishedPruner, settings: Mapping[str, object], num_patches: object
) -> dict:
    """Returns the settings of a case, which is what the authors' own code gave.

    What the cases of VisionZip call published is whether its split is, which makes no difference.
    """
    left_out = ("published", *pruner.elsewhere)
    others = {name: value for name, value in settings.items() if name not in left_out}
    has_both = "published" in {field.name for field in fields(pruner.options)}
    if "llm_keys" in pruner.reads and type(num_patches) is int:  # the keys do not say it
        others = {"num_patches": num_patches} | others
    return others | ({"published": True} if has_both else {})


def _arrays_of(
    case: dict, pruner: PublishedPruner, recorded: Recorded
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each array that the method reads, by its own name."""
    inputs = case.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(name, str) for name in inputs):
        raise UserError("the inputs must be a list of names of arrays")
    by_name = {name.rpartition("/")[2]: name for name in inputs}
    for name in pruner.reads:
        if name not in by_name:
            raise UserError(f"{pruner.name} reads {name}, which the inputs of the case lack")
        yield name, recorded.read(by_name[name])


def _check_axes(arrays: Mapping[str, np.ndarray], num_patches: object) -> None:
    """Raises a UserError if the shapes of arrays of one image do not fit together."""
    sizes = {}
    if num_patches is not None:
        if type(num_patches) is not int or num_patches < 1:
            raise UserError(f"n is {quoted(num_patches)}; it must be the number of patches")
        sizes = {"N": num_patches, "S": num_patches + 1}
    for name, values in arrays.items():
        axes = AXES.get(name, "")
        if axes and (len(axes) != values.ndim or 0 in values.shape):
            raise UserError(f"{name} has shape {values.shape}; it must have {len(axes)} axes")
        for axis, size in zip(axes, values.shape):
            if sizes.setdefault(axis, size) != size:
                raise UserError(
                    f"{name} has shape {values.shape}, which does not fit the other arrays or n"
                )
            if axis in "NS":
                sizes |= {"N": size - (axis == "S"), "S": size + (axis == "N")}

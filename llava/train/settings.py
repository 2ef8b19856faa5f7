"""What decides the result of training: of every flag, and beside the flags."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from llava.errors import UserError
from llava.files import read_json, write_json
from llava.model.loading.placement import placement
from llava.train.arguments import TrainArguments, model_arguments

# Flags that decide nothing but rounding, or where things lie; epochs and samples count through the
# numbers of steps and of samples that they come to.
FREE = frozenset(
    "output_dir output caption_output selector_output features checkpoints_root device device_map "
    "compile save_every keep_checkpoints log_every mining_batch_size answer_batch_size epochs "
    "samples".split()
)
# Flags that name files and folders: what is in these counts, not what they are called. The settings
# have its hashes under "inputs" (of the LLM under "weights", of images under "captions" or "data").
CONTENTS = frozenset(
    "captions images questions data model_path vision_tower gpt2 caption_model selector "
    "longclip".split()
)
# What folders were made with that are older than the record of it.
_UNSAID = {
    "patch_post_layernorm": True,
    "text_selection": "farthest",
    "select_layer": -2,
    "image_aspect_ratio": "pad",
    "budgets": [],
    "silence": False,
    "one_in": [16, 16, 8, 4],
    "false_phrases": 0.0,
}
_LONGEST = 60  # characters of a value in a message


def settings_of(args: TrainArguments) -> dict:
    """Returns the flags of a stage that decide its result, beyond rounding, as JSON.

    How many processes share the work is not among them: a micro batch has the same samples and
    noise on whichever process.
    """
    flags = {n: value for n, value in asdict(args).items() if n not in FREE | CONTENTS}
    if "dtype" in flags:
        flags["dtype"] = _dtype(args)
    return json.loads(json.dumps(flags))


def keep_settings(
    path: Path,
    settings: dict,
    args: TrainArguments,
    way_out: str,
    replaced: Collection[str] = (),
) -> None:
    """Compares settings with those that a file keeps, and writes what it does not have yet.

    Args:
        path: of the file; without it, the settings are the first.
        settings: of now, JSON.
        args: of the stage.
        way_out: ends the message.
        replaced: names of settings that may differ; those of now are kept.

    Raises:
        UserError: others differ; says in what.
    """
    settings = json.loads(json.dumps(settings))
    before = read_json(path) if path.is_file() else {}
    unsaid = dict(_UNSAID)
    if "dtype" in settings:
        unsaid["dtype"] = _dtype(replace(args, dtype="auto"))
    compared = {name: value for name, value in settings.items() if name not in replaced}
    changed = changes(before, compared, unsaid) if before else []
    if changed:
        raise UserError(f"{path} was begun with other settings: {'; '.join(changed)}. {way_out}")
    if before != before | settings:
        write_json(path, before | settings)


def changes(before: Mapping, now: Mapping, unsaid: Mapping) -> list[str]:
    """Says of every setting that differs what it was and is.

    Args:
        before: settings of then. One that they do not name is older than its record: it counts as
            it is in unsaid; if it is not there either, it cannot be compared.
        now: settings of now.
        unsaid: defaults of then.
    """
    before, now = _flat(before), _flat(now)
    found = []
    for name, value in sorted(now.items()):
        # None is the value of a flag that the run does not come to use.
        old = before.get(name, value if value is None else unsaid.get(name, value))
        if old != value:
            told = f"{name} was {old!r}, now {value!r}"
            short = max(len(repr(old)), len(repr(value))) <= _LONGEST
            found.append(told if short else f"{name} has changed")
    return found


def _flat(settings: Mapping) -> dict:
    """Settings with each input by its name."""
    inputs = {f"inputs {name}": value for name, value in settings.get("inputs", {}).items()}
    return {name: value for name, value in settings.items() if name != "inputs"} | inputs


def _dtype(args: TrainArguments) -> str:
    """Returns the dtype that the frozen parts have, without its module's name."""
    return str(placement(model_arguments(args)).dtype).removeprefix("torch.")

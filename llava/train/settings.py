"""The settings that decide the result of training: flags and others."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from llava.errors import UserError
from llava.files import read_json, write_json
from llava.model.loading.placement import placement
from llava.train.arguments import SHORT, TrainArguments, model_arguments

# Flags that affect only rounding, or where files are; epochs and samples count through the
# resulting numbers of steps and of samples.
FREE = frozenset(
    "output_dir output caption_output selector_output features checkpoints_root device device_map "
    "compile save_every keep_checkpoints log_every mining_batch_size answer_batch_size epochs "
    "samples".split()
)
# Flags that name files and folders: their contents count, not their names. The settings have their
# hashes under "inputs" (of the LLM under "weights", of images under "captions" or "data").
CONTENTS = frozenset(
    "captions images questions data model_path vision_tower gpt2 caption_model selector "
    "longclip start_from".split()
)
# The values that count for folders older than the record of a setting.
_UNSAID = {
    "patch_post_layernorm": True,
    "text_selection": "farthest",
    "select_layer": -2,
    "image_aspect_ratio": "pad",
    "budgets": [],
    "silence": False,
    "one_in": [16, 16, 8, 4],
    "false_phrases": 0.0,
    "answer_words": SHORT,
    "inputs start_from": None,
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
    """Compares settings with those in a file, and adds those that it lacks.

    Args:
        path: of the file; if it does not exist, it is written.
        settings: the current ones, JSON.
        args: of the stage.
        way_out: ends the message.
        replaced: names of settings that may differ; the current ones are kept.

    Raises:
        UserError: others differ; names them.
    """
    settings = json.loads(json.dumps(settings))
    before = read_json(path) if path.is_file() else {}
    unsaid = dict(_UNSAID)
    if "dtype" in settings:
        # A stage whose settings have a dtype has the flag.
        unsaid["dtype"] = _dtype(replace(args, dtype="auto"))  # type: ignore[call-arg]
    compared = {name: value for name, value in settings.items() if name not in replaced}
    changed = changes(before, compared, unsaid) if before else []
    if changed:
        raise UserError(f"{path} was begun with other settings: {'; '.join(changed)}. {way_out}")
    if before != before | settings:
        write_json(path, before | settings)


def changes(before: Mapping, now: Mapping, unsaid: Mapping) -> list[str]:
    """Describes every setting that differs: its value before and now.

    Args:
        before: former settings. A missing one is older than its record: it counts as
            in unsaid; if it is missing there too, it cannot be compared.
        now: current settings.
        unsaid: former defaults.
    """
    before, now = _flat(before), _flat(now)
    found = []
    for name, value in sorted(now.items()):
        # None is the value of a flag that the run does not use.
        old = before.get(name, value if value is None else unsaid.get(name, value))
        if old != value:
            told = f"{name} was {old!r}, now {value!r}"
            short = max(len(repr(old)), len(repr(value))) <= _LONGEST
            found.append(told if short else f"{name} has changed")
    return found


def _flat(settings: Mapping) -> dict:
    """Returns the settings with each input under its own name."""
    inputs = {f"inputs {name}": value for name, value in settings.get("inputs", {}).items()}
    return {name: value for name, value in settings.items() if name != "inputs"} | inputs


def _dtype(args: TrainArguments) -> str:
    """Returns the dtype of the frozen parts, without its module's name."""
    return str(placement(model_arguments(args)).dtype).removeprefix("torch.")

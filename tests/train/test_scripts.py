"""The scripts of training give their commands flags that these know."""

import importlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from llava.utils.flags import FlagParser

FOLDER = Path(__file__).parents[2] / "scripts" / "v1_5" / "train"
STAGES = {
    "caption.sh": {"llava.train.train_caption"},
    "selector.sh": {"llava.train.train_selector"},
    "compensation.sh": {"llava.train.train_compensation"},
    "mini.sh": {
        *("llava.mini.make_data", "llava.mini.make_model", "llava.train.train_clip"),
        *("llava.train.train_projector", "llava.train.train_llava", "llava.train.train_caption"),
        *("llava.train.train_long_clip", "llava.train.train_selector"),
        *("llava.train.train_compensation", "llava.train.train_scene_graph"),
    },
    "mini_next.sh": {
        *("llava.mini.make_data", "llava.mini.make_next", "llava.train.train_llava"),
        *("llava.train.train_caption", "llava.train.train_selector"),
    },
}


_ROOMS_OF_FLAGS = ("llava.train.stages.arguments", "llava.mini.stages.arguments")


def arguments_of(module):
    """The class whose fields are the flags of a command."""
    (found,) = (
        value
        for name, value in vars(module).items()
        if name.endswith("Arguments") and value.__module__ in (module.__name__, *_ROOMS_OF_FLAGS)
    )
    return found


@pytest.mark.parametrize("name", STAGES)
def test_flags_are_known(tmp_path, name):
    """In the place of Python something stands that writes down what it is called with."""
    recorder = tmp_path / "python"
    recorder.write_text(
        "#!/usr/bin/env python3\nimport json, sys\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    recorder.chmod(0o755)
    settings = {"PYTHON": str(recorder), "OUT": str(tmp_path / "out"), "WORK": str(tmp_path)}
    settings["NPROC"] = "1"
    done = subprocess.run(["bash", str(FOLDER / name)], env=os.environ | settings)
    assert done.returncode == 0
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert STAGES[name] <= {words[1] for words in calls}
    for dash, module, *words in calls:
        assert dash == "-m"
        FlagParser(arguments_of(importlib.import_module(module)), module, "x").read(words)

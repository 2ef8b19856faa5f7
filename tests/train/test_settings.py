"""What decides a result is recorded, of every flag of every stage; what differs is named."""

import json
import shutil
from dataclasses import dataclass, fields

import pytest
import torch

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.model.products.forms import choose_forms
from llava.train import (
    train_caption,
    train_clip,
    train_compensation,
    train_llava,
    train_long_clip,
    train_projector,
    train_scene_graph,
    train_selector,
)
from llava.train.arguments import TrainArguments, model_arguments
from llava.train.settings import CONTENTS, FREE, changes, keep_settings, settings_of
from tests.helpers.toy_stage import toy_arguments, train_toy

STAGES = [
    train_caption.CaptionArguments,
    train_clip.ClipArguments,
    train_compensation.CompensationArguments,
    train_llava.LlavaArguments,
    train_long_clip.LongClipArguments,
    train_projector.ProjectorArguments,
    train_scene_graph.SceneGraphArguments,
    train_selector.SelectorArguments,
]
# Every flag, placed by hand: a new one fails the test until it is placed here and there.
DECIDES = {
    *("seed", "max_steps", "batch_size", "micro_batch_size", "learning_rate", "weight_decay"),
    *("beta1", "beta2", "warmup_steps", "schedule", "max_grad_norm", "mixed_precision", "dtype"),
    *("patch_post_layernorm", "text_selection", "budget", "budgets", "prefix_length"),
    *("mapper_layers", "candidates", "margins", "selector_learning_rate", "questions_per_image"),
    *("question_share", "shares", "exercises", "focus", "one_in", "false_phrases", "silence"),
    "answer_words",
}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_every_flag_is_recorded_or_named_as_free(stage):
    names = {field.name for field in fields(stage)}
    assert names <= DECIDES | FREE | CONTENTS
    assert set(settings_of(stage(output_dir="out"))) == names & DECIDES
    assert not DECIDES & (FREE | CONTENTS) and not FREE & CONTENTS


@dataclass
class NewArguments(TrainArguments):
    brand_new: int = 7


def test_a_new_flag_is_recorded_until_it_is_said_to_be_free():
    assert settings_of(NewArguments())["brand_new"] == 7


ASKING = {"gpt2", "caption_model", "longclip", "device_map", "text_selection"}
HEEDED = {
    "CaptionArguments": {"gpt2", "text_selection"},
    "LlavaArguments": {"text_selection"},
    "ProjectorArguments": set(),
    "SceneGraphArguments": set(),
    "SelectorArguments": ASKING | {"silence"},  # its own flag of that name: to teach silence
    "CompensationArguments": ASKING | {"selector", "compile"},
}
SEEING = {"model_path", "vision_tower", "checkpoints_root", "dtype", "device"}
SEEING |= {"patch_post_layernorm"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_a_stage_has_the_models_flags_that_it_heeds(stage):
    of_the_model = {field.name for field in fields(ModelArguments)}
    found = {field.name for field in fields(stage)} & of_the_model
    name = stage.__name__
    assert found == (
        SEEING | HEEDED[name] if name in HEEDED else found & {"device", "vision_tower"}
    )


def test_a_flag_without_effect_is_refused_and_one_with_it_arrives(capsys):
    with pytest.raises(SystemExit):
        train_caption.main(["--longclip", "x.pt"])
    assert "unknown flags: --longclip x.pt" in capsys.readouterr().err
    args = train_caption.CaptionArguments(dtype="float16", gpt2="g", text_selection="nearest")
    expected = ModelArguments(
        dtype="float16",
        gpt2="g",
        text_selection="nearest",
        compensation=False,
        cpu_products="plain",
    )
    assert model_arguments(args) == expected
    for device in ("cpu", "cuda"):  # a stage can run on either
        choose_forms(expected.cpu_products, torch.device(device), torch.float32)


@pytest.mark.parametrize(
    "words, says",
    [
        ("--shares 0 0 0 1 0 --text-selection nearest", "--text-selection would do nothing"),
        ("--shares 0 0 0 1 0 --features x --dtype float16", "--features and --dtype would do noth"),
        ("--shares 0 1 0 0 0 --focus 3", "--focus would do nothing with these --shares"),
    ],
)
def test_flags_about_pictures_are_refused_where_none_are_shown(tmp_path, capsys, words, says):
    flags = ["--model-path", "m", "--data", "d", "--output", "o", "--output-dir", str(tmp_path)]
    assert train_llava.main([*flags, "--max-steps", "1", *words.split()]) == 2
    assert says in capsys.readouterr().err


def test_a_map_of_devices_is_refused_on_the_cpu(tmp_path):
    args = train_selector.SelectorArguments(
        output_dir=str(tmp_path), max_steps=1, device="cpu", device_map="auto", data="d", images="i"
    )
    args.output = "o"
    with pytest.raises(UserError, match="leave it out with --device cpu"):
        train_selector.train_selector(args)


def test_changes_are_named_shortly():
    before = {"rate": 0.1, "inputs": {"data": "a" * 64, "old": "b"}, "gone": 1, "list": [1, 2]}
    now = {"rate": 0.2, "inputs": {"data": "c" * 64, "new": "d"}, "list": [1, 2]}
    assert changes(before, now, {}) == ["inputs data has changed", "rate was 0.1, now 0.2"]
    assert changes(before, before, {}) == []
    assert changes({"a": 1}, {"a": 1, "b": 2}, {"b": 3}) == ["b was 3, now 2"]
    assert changes({"a": 1}, {"a": 1, "b": 2}, {"b": 2}) == []
    assert changes({"inputs": {"q": None}}, {"inputs": {"q": "x"}}, {}) == [
        "inputs q was None, now 'x'"
    ]


OLDER = {"patch_post_layernorm": True, "text_selection": "farthest", "dtype": "float32"}


@pytest.mark.parametrize("name, other", [*zip(OLDER, (False, "nearest", "bfloat16"))])
def test_an_older_folder_counts_as_made_with_the_defaults(tmp_path, name, other):
    """Its settings do not name these flags; after the first comparison they do."""
    path = tmp_path / "settings.json"
    args = train_caption.CaptionArguments(device="cpu")
    old = {"budgets": [9], "questions": "somewhere.json", "inputs": {"captions": "x"}}
    now = {"budgets": [9], "inputs": {"captions": "x", "questions": "y"}} | OLDER
    path.write_text(json.dumps(old))
    with pytest.raises(UserError, match=f"{name} was .*, now {other!r}. Begin again"):
        keep_settings(path, now | {name: other}, args, "Begin again")
    assert json.loads(path.read_text()) == old
    keep_settings(path, now, args, "Begin again")
    assert json.loads(path.read_text()) == old | now


def test_a_finished_toy_is_refused_with_another_setting(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "out")
    with pytest.raises(UserError, match=r"settings.json was begun with .*beta2 was 0.999, now 0.9"):
        train_toy(tmp_path / "out", beta2=0.9)
    train_toy(tmp_path / "out", device="cpu", log_every=77)


def test_settings_name_every_flag_of_the_toy(undisturbed):
    recorded = json.loads((undisturbed / "settings.json").read_text())
    names = {field.name for field in fields(toy_arguments("out"))} - FREE
    assert names <= recorded.keys()
    assert recorded["max_steps"] == 24 and recorded["micro_batch_size"] == 2

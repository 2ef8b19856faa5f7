"""Qwen2.5-VL: what is refused, and the commands."""

import asyncio
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from llava.arguments import ModelArguments
from llava.checkpoints.convert import convert
from llava.checkpoints.verify import verify
from llava.errors import UserError
from llava.eval import model_vqa_loader, sweep
from llava.eval.figure import draw_patches
from llava.model.sample import Sample
from llava.serve.accm import Accm
from llava.serve.engines.vllm import VllmEngine
from tests.helpers.tiny_qwen import (
    MOST,
    QUESTION,
    drawn,
    full,
    load_tiny_qwen,
    sample_of,
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(compensation="caption+selector"), "--side-tower FOLDER.*--compensation none"),
        (dict(compensation="scene-graph"), "--side-tower FOLDER"),
        (dict(vision_tower="clip"), "--vision-tower is CLIP of a LLaVA"),
        (dict(text_selection="nearest"), "--text-selection is about CLIP"),
        (dict(side_tower="nowhere"), "there is no nowhere"),
        (dict(compile=True), "--compile is for Llama"),
        (dict(text_selection="nearest", side_tower="nowhere"), "there is no nowhere"),
    ],
)
def test_flags_that_cannot_work_are_refused(qwen_folder, settings, message):
    with pytest.raises(UserError, match=message):
        load_tiny_qwen(qwen_folder, **settings)


def test_a_side_tower_is_for_other_models_than_llava(load_tiny):
    with pytest.raises(UserError, match="--side-tower is for models whose own tower is not CLIP"):
        load_tiny(side_tower="clip")


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl", "internvl", "llava_onevision"])
def test_relatives_are_refused_by_name(qwen_folder, tmp_path, kind):
    other = shutil.copytree(qwen_folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": kind}))
    with pytest.raises(UserError, match=f"model_type {kind}.*not supported.*Qwen2.5-VL"):
        load_tiny_qwen(other)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"vision_config": None}, "configuration of"),
        ("config.json", {"quantization_config": {"bits": 4}}, "is quantised"),
        ("config.json", {"text_config": {"use_sliding_window": True}}, "use_sliding_window"),
        ("config.json", {"text_config": {"num_key_value_heads": 3}}, "share 3 heads"),
        ("config.json", {"vision_config": {"fullatt_block_indexes": [9]}}, "fullatt_block"),
        ("config.json", {"vision_config": {"out_hidden_size": 32}}, "out_hidden_size is 32"),
        ("config.json", {"vision_config": {"depth": 10**6}}, "num_hidden_layers is"),
        ("config.json", {"text_config": {"vocab_size": 100}}, "tokens and the model 100"),
        ("preprocessor_config.json", {"patch_size": 16}, "its patches have"),
        ("preprocessor_config.json", {"merge_size": 1}, "merge_size is 1"),
        ("generation_config.json", {"eos_token_id": ["a"]}, "eos_token_id"),
    ],
)
def test_damaged_configurations_are_one_line(qwen_folder, tmp_path, name, changes, message):
    other = shutil.copytree(qwen_folder, tmp_path / "other")
    config = json.loads((other / name).read_text())
    for key, value in changes.items():
        is_part = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = config[key] | value if is_part else value
    (other / name).write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as caught:
        load_tiny_qwen(other)
    assert "\n" not in str(caught.value)


def test_missing_weights_and_a_foreign_tokenizer(qwen_folder, tmp_path, checkpoints):
    other = shutil.copytree(qwen_folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    del tensors["visual.merger.mlp.0.bias"]
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(UserError, match="vision tower.*merger.mlp.0.bias"):
        load_tiny_qwen(other)
    (other / "tokenizer.json").unlink()
    (other / "tokenizer_config.json").write_text("{}")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(checkpoints / "gpt2-tiny" / name, other / name)
    with pytest.raises(UserError, match="has no token <|image_pad|>"):
        load_tiny_qwen(other)


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (201, 1)])
def test_images_that_are_too_narrow(qwen, size):
    with pytest.raises(UserError, match="longer side is at most 200 times"):
        qwen.answer([Sample(Image.new("RGB", size), QUESTION, pruner="none")])


def test_an_image_without_pixels(qwen):
    with pytest.raises(UserError, match="the image has no pixels"):
        qwen.answer([Sample(Image.new("RGB", (0, 0)), QUESTION, pruner="none")])


@pytest.mark.parametrize("word", ["<|image_pad|>", "<|video_pad|>", "<image>"])
def test_one_image_and_no_video(qwen, word):
    with pytest.raises(UserError, match="one image"):
        qwen.answer([full((28, 28), question=f"{word} What?")])
    if word != "<image>":
        with pytest.raises(UserError, match="no video"):
            qwen.answer([full((28, 28), history=(("What?", word),))])


# Commands --------------------------------------------------------------------------------------


def test_verify_reads_all_parts(qwen_folder, checkpoints):
    clip = str(checkpoints / "clip-vit-tiny-patch14-336")
    settings = dict(device="cpu", gpt2=str(checkpoints / "gpt2-tiny"))
    settings |= dict(checkpoints_root=str(checkpoints))
    verdicts = list(verify(ModelArguments(str(qwen_folder), side_tower=clip, **settings)))
    assert [v.problem for v in verdicts] == [None] * 6
    assert [v.part for v in verdicts[:2]] == ["model", "side_tower"]
    captions, qwen = verify(ModelArguments(str(qwen_folder), **settings))
    assert qwen.problem is None and "--side-tower" in captions.problem
    (alone,) = verify(ModelArguments(str(qwen_folder), compensation="none", **settings))
    assert alone.problem is None
    settings |= dict(compensation="none", vision_tower=clip)
    (idle,) = verify(ModelArguments(str(qwen_folder), **settings))
    assert "--vision-tower is CLIP of a LLaVA" in idle.problem


def test_runs_are_refused_as_a_whole(qwen_folder, tmp_path, capsys):
    """What no question can be asked with is one error, before the first question."""
    flags = ["--model-path", str(qwen_folder), "--device", "cpu"]
    sweep_flags = ["--methods", "full", "--costs", "--output-dir", str(tmp_path / "out")]
    assert sweep.main([*flags, *sweep_flags]) == 2
    assert "--costs has formulas for LLaVA" in capsys.readouterr().err
    drawn(60, 40).save(tmp_path / "a.png")
    lines = [{"question_id": n, "image": "a.png", "text": "What?"} for n in range(3)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = ["--question-file", str(tmp_path / "q.jsonl"), "--image-folder", str(tmp_path)]
    files += ["--answers-file", str(tmp_path / "answers.jsonl")]
    assert model_vqa_loader.main([*flags, *files, "--no-compensation"]) == 2
    said = capsys.readouterr().err
    assert "--side-tower FOLDER, or use one of" in said and said.count("error:") == 1


def test_convert_gives_the_same_answers(qwen, qwen_folder, tmp_path):
    convert(qwen_folder, tmp_path / "half", "bfloat16")
    convert(qwen_folder, tmp_path / "same", None)
    sample = sample_of((100, 200), pruner="uniform", visual_token_num=5)
    assert (
        load_tiny_qwen(tmp_path / "same").answer([sample])[0].out_ids
        == qwen.answer([sample])[0].out_ids
    )
    assert len(load_tiny_qwen(tmp_path / "half").answer([sample])[0].kept_idx) == 5


def test_the_python_interface(qwen_folder):
    accm = Accm.from_pretrained(
        qwen_folder, 6, pruner="fastervlm", compensation="none", device="cpu"
    )
    image = drawn(300, 200)
    result = accm.answer(image, QUESTION, max_new_tokens=3)
    assert len(result.kept_idx) == 6 and result.caption is None
    assert accm.model.count_tokens(image) == 54 and accm.model.count_tokens() == MOST
    assert repr(result).startswith("Result(") and "6 of 54 visual tokens" in repr(result)
    assert result.figure().height >= 448
    picture = draw_patches(accm.model, image, [8], {8: "attention"})  # the end of the first row
    assert picture.size == (672, 448)
    shown = np.asarray(picture).astype(float)
    assert shown[10:60, 610:660].mean() > 3 * shown[10:60, 10:60].mean()


def test_prompts_for_another_engine_are_refused(qwen):
    models = SimpleNamespace(usual_model=qwen)
    engine = VllmEngine(models, ["http://127.0.0.1:9"], 1, 0.0, 0, lambda *_: None)
    with pytest.raises(UserError, match="M-RoPE.*--engine local"):
        asyncio.run(engine.start())

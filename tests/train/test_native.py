"""The caption stage on Qwen2.5-VL's own tokens, once through the command, and its captions used."""

import json

import pytest
import torch

from llava.arguments import ModelArguments
from llava.checkpoints.verify import verify
from llava.errors import UserError
from llava.model.builder import load_from_arguments
from llava.model.sample import Sample
from llava.train import train_caption
from llava.train.native import NativeFeatures, NativePruner, load_native
from tests.helpers.tiny_qwen import drawn, make_tiny_qwen

WIDTH = 64  # of the tiny LLM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native") / "qwen"
    make_tiny_qwen(folder)
    return folder


@pytest.fixture(scope="module")
def flags(folder, world, checkpoints):
    words = ["--model-path", str(folder), "--gpt2", str(checkpoints / "gpt2-tiny")]
    words += ["--device", "cpu", "--captions", str(world / "captions.json")]
    words += ["--images", str(world / "images"), "--budgets", "1/9", "3", "--prefix-length", "4"]
    words += "--mapper-layers 1 --batch-size 2 --max-steps 2 --warmup-steps 0".split()
    return words


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    outputs = ["--output-dir", str(folder / "run"), "--output", str(folder / "own.pt")]
    assert train_caption.main([*flags, *outputs]) == 0
    return folder


def test_the_stage_records_what_it_read(trained):
    record = json.loads((trained / "training.json").read_text())["train_caption"]
    assert record["settings"]["pruner"] == "fastervlm" and record["settings"]["dtype"] == "float32"
    assert record["settings"]["budgets"] == ["1/9", 3] and record["run"]["steps"] == 2


def test_captions_are_written_of_the_model_s_own_tokens(trained, folder, checkpoints):
    own = dict(compensation="caption", caption_model=str(trained / "own.pt"), device="cpu")
    args = ModelArguments(str(folder), gpt2=str(checkpoints / "gpt2-tiny"), **own)
    model = load_from_arguments(args)
    mapper = model.compensator.caption_model.clip_project
    assert mapper.linear.in_features == WIDTH and mapper.prefix_const.shape == (4, 32)
    sample = Sample(
        drawn(300, 200), "What?", pruner="fastervlm", visual_token_num=6, max_new_tokens=3
    )
    (answer,) = model.answer([sample])
    assert answer.supplement.text.strip() in model.language_model.tokenizer.decode(
        [i for i in answer.input_ids if i >= 0]
    )
    assert "side tower" not in answer.seconds
    assert all(verdict.problem is None for verdict in verify(args))


def test_features_are_those_of_the_pipeline(folder, tmp_path):
    drawn(300, 200).save(tmp_path / "a.png")
    args = ModelArguments(str(folder), device="cpu")
    backbone, _ = load_native(args)
    assert next(backbone.language_model.llm.parameters()).is_meta  # no LLM is read
    image = NativeFeatures([tmp_path / "a.png"], backbone).image(0)
    model = load_from_arguments(ModelArguments(str(folder), device="cpu", compensation="none"))
    (expected,) = model.encode_images(model.preprocess([drawn(300, 200)]))
    assert torch.equal(image.patch_embeds, expected.features)
    sample = Sample(drawn(300, 200), "?", pruner="fastervlm", visual_token_num=6, max_new_tokens=1)
    pruned = NativePruner().select(image, "?", 6, torch.Generator())
    assert pruned.kept_idx.tolist() == model.answer([sample])[0].kept_idx
    assert len(NativePruner().select(image, "?", 999, torch.Generator()).dropped_idx) == 1


def test_a_caption_model_of_clip_is_refused(folder, checkpoints):
    published = str(checkpoints / "accm" / "coco_prefix-009.pt")
    own = dict(compensation="caption", caption_model=published, device="cpu")
    with pytest.raises(UserError, match="of another shape.*clip_project.linear.weight"):
        load_from_arguments(ModelArguments(str(folder), gpt2=str(checkpoints / "gpt2-tiny"), **own))


def test_features_on_disk_are_refused(flags, tmp_path, capsys):
    outputs = ["--output-dir", str(tmp_path / "run"), "--output", str(tmp_path / "own.pt")]
    assert train_caption.main([*flags, *outputs, "--features", str(tmp_path)]) != 0
    assert "--features is for CLIP's outputs" in capsys.readouterr().err

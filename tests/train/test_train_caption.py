"""The caption stage: its loss is the plain one, its file is the pipeline's, its command resumes."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from llava.errors import UserError
from llava.model.compensation.builder import build_caption_model, load_caption_model
from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.caption_writer import MAX_CAPTION_LENGTH
from llava.model.loading.placement import Placement
from llava.model.loading.weights import read_checkpoint
from llava.train import train_caption
from llava.train.provenance import save_weights
from llava.train.stages.arguments import CaptionArguments
from llava.train.stages.caption import (
    CaptionObjective,
    caption_batch,
    caption_ids,
    caption_loss,
    new_caption_model,
)
from tests.helpers.plain import caption_losses

QUESTIONS = [[301, 302, 303, 304, 305], [310], [320, 321]]
CAPTIONS = [[400, 401, 13], [410, 411, 412, 413, 13], [13]]
WIDTH, PREFIX = 6, 4
PROJECTION = 48  # of the tiny CLIP
PLACE = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def caption_model():
    """A small one as training begins, where the mapper says something."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=500, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    model = CaptionModel(GPT2LMHeadModel(config), WIDTH, PREFIX, 2)
    with torch.no_grad():
        model.clip_project.prefix_const.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def dropped():
    generator = torch.Generator().manual_seed(1)
    return [3 * torch.randn(count, WIDTH, generator=generator) for count in (7, 2, 5)]


def test_the_loss_is_that_of_each_caption_alone(caption_model, dropped):
    batch = caption_batch(dropped, QUESTIONS, CAPTIONS, PREFIX)
    prefix = caption_model.prefix(batch.dropped, batch.dropped_mask)
    losses, rows, right = caption_loss(caption_model, batch, prefix)
    assert batch.weight == len(losses) == sum(map(len, CAPTIONS))
    for row, sample in enumerate(zip(dropped, QUESTIONS, CAPTIONS)):
        expected, likeliest = caption_losses(caption_model, *sample)
        assert torch.allclose(losses[rows == row], expected, atol=1e-5)
        assert torch.equal(right[rows == row], likeliest == torch.tensor(sample[2]))


def test_gradients_are_those_of_the_captions_alone(caption_model, dropped):
    """Padding gets none and gives none, neither the captions' nor the mapper's."""
    objective = CaptionObjective(caption_model)
    names = [
        "clip_project.linear.weight",
        "clip_project.prefix_const",
        "gpt.transformer.wpe.weight",
    ]
    trained = [caption_model.get_parameter(name) for name in names]
    sums = objective(caption_batch(dropped, QUESTIONS, CAPTIONS, PREFIX))
    found = torch.autograd.grad(sums["loss"], trained)
    samples = zip(dropped, QUESTIONS, CAPTIONS)
    alone = sum(caption_losses(caption_model, *sample)[0].sum() for sample in samples)
    assert torch.allclose(sums["loss"], alone, atol=1e-4)
    for gradient, expected in zip(found, torch.autograd.grad(alone, trained)):
        assert torch.allclose(gradient, expected, atol=1e-4)
        assert expected.abs().max() > 0.01


def test_padding_of_the_dropped_tokens_is_not_looked_at(caption_model, dropped):
    batch = caption_batch(dropped, QUESTIONS, CAPTIONS, PREFIX)
    filled = batch.dropped.masked_fill(batch.dropped_mask[..., None] == 0, 99.0)
    together = caption_model.prefix(filled, batch.dropped_mask)
    for prefix, tokens in zip(together, dropped):
        assert torch.allclose(prefix, caption_model.prefix(tokens[None])[0], atol=1e-5)
    assert not torch.allclose(together[1], caption_model.prefix(filled)[1], atol=1e-2)


def test_a_caption_ends_with_its_first_stop(model):
    tokenizer = model.compensator.tokenizer
    (stop,) = tokenizer.encode(".")
    one = caption_ids("A cat. A dog.", tokenizer)
    assert one == caption_ids(" A cat", tokenizer) == [*tokenizer.encode("A cat"), stop]
    assert caption_ids(".", tokenizer) == [stop]
    long = caption_ids("A cat on a road " * 60, tokenizer)
    assert len(long) == MAX_CAPTION_LENGTH and long.index(stop) == len(long) - 1


@pytest.fixture(scope="module")
def command(world, tiny_flags):
    """Runs the stage on the toy world; gives its exit status."""

    def run(folder, *others):
        flags = ["--output-dir", str(folder / "run")]
        flags += ["--output", str(folder / "accm" / "caption.pt")]
        flags += ["--captions", str(world / "captions.json"), "--images", str(world / "images")]
        flags += ["--questions", str(world / "conversations.json"), "--budgets", "9", "300"]
        flags += "--prefix-length 4 --mapper-layers 1 --batch-size 4 --save-every 1".split()
        flags += "--max-steps 2 --warmup-steps 0".split()
        return train_caption.main([*tiny_flags, *flags, *others])

    return run


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caption")
    assert command(folder) == 0
    return folder


def test_the_command_writes_what_the_pipeline_loads(trained, checkpoints):
    output = trained / "accm" / "caption.pt"
    model, _ = load_caption_model(checkpoints / "gpt2-tiny", output, PROJECTION, PLACE)
    last = load_file(trained / "run" / "step-00000002" / "model.safetensors")
    assert model.clip_project.prefix_const.shape == (4, 32)
    for name, tensor in last.items():
        found = model.get_parameter(name.removeprefix("model."))
        assert torch.equal(found, tensor.half().float())
    gpt = load_file(checkpoints / "gpt2-tiny" / "model.safetensors")
    name = next(name for name in gpt if name.endswith("wte.weight"))
    moved = (model.gpt.transformer.wte.weight - gpt[name].float()).abs().max()
    assert 0 < moved < 0.01  # it began with GPT-2's own weights, and learnt
    record = json.loads((trained / "accm" / "training.json").read_text())["train_caption"]
    assert record["settings"]["budgets"] == [9, 300] and record["run"]["steps"] == 2
    assert set(record["outputs"]) == {"caption.pt"}
    assert set(record["inputs"]) == {"captions", "vision_tower", "gpt2", "questions"}
    for name in ("settings", "run"):
        seen = {key: record[name][key] for key in ("text_selection", "dtype", "select_layer")}
        assert seen == {"text_selection": "farthest", "dtype": "float32", "select_layer": -2}
        assert record[name]["patch_post_layernorm"] is True


def test_it_goes_on_from_a_caption_model(trained, command, tmp_path):
    """One step of no length away from the file, and the record has its hash."""
    output = trained / "accm" / "caption.pt"
    still = ["--start-from", str(output), "--max-steps", "1", "--learning-rate", "1e-9"]
    assert command(tmp_path, *still) == 0
    begun, ended = read_checkpoint(output), read_checkpoint(tmp_path / "accm" / "caption.pt")
    assert begun.keys() == ended.keys()
    for name, tensor in begun.items():
        torch.testing.assert_close(ended[name], tensor, msg=name)
    record = json.loads((tmp_path / "accm" / "training.json").read_text())["train_caption"]
    assert "start_from" in record["inputs"]


@pytest.mark.parametrize("first, second", [(False, True), (True, False), (True, "other")])
def test_a_run_goes_on_from_the_caption_model_that_it_began_with(
    trained, command, tmp_path, capsys, first, second
):
    output = trained / "accm" / "caption.pt"
    weights = read_checkpoint(output)
    name = "clip_project.prefix_const"
    save_weights(tmp_path / "other.pt", weights | {name: weights[name] + 1}, torch.float32)
    given = {False: [], True: ["--start-from", str(output)]}
    given["other"] = ["--start-from", str(tmp_path / "other.pt")]
    assert command(tmp_path, *given[first], "--max-steps", "1") == 0
    capsys.readouterr()
    assert command(tmp_path, *given[second], "--max-steps", "1") == 2
    assert "inputs start_from" in capsys.readouterr().err
    assert command(tmp_path, *given[first], "--max-steps", "1") == 0


def test_a_caption_model_of_other_sizes_is_refused_with_the_flags(
    trained, command, tmp_path, capsys
):
    start = ["--start-from", str(trained / "accm" / "caption.pt")]
    assert command(tmp_path, *start, "--prefix-length", "5") == 2
    assert "say --prefix-length 4 --mapper-layers 1" in capsys.readouterr().err
    assert command(tmp_path, "--start-from", str(tmp_path / "nowhere.pt")) == 2
    assert "nowhere.pt" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_it_begins_with_gpt2s_weights_in_either_file(checkpoints, tmp_path, name):
    gpt = load_file(checkpoints / "gpt2-tiny" / "model.safetensors")
    shutil.copy(checkpoints / "gpt2-tiny" / "config.json", tmp_path)
    save_weights(tmp_path / "weights.pt", gpt, torch.float32)
    if name == "pytorch_model.bin":
        (tmp_path / "weights.pt").rename(tmp_path / name)
    else:
        shutil.copy(checkpoints / "gpt2-tiny" / name, tmp_path)
    model = new_caption_model(tmp_path, PROJECTION, CaptionArguments())
    key = next(key for key in gpt if key.endswith("wte.weight"))
    assert torch.equal(model.gpt.transformer.wte.weight, gpt[key].float())


def test_a_file_with_a_weight_too_few_is_not_loaded(trained, checkpoints):
    config = json.loads((checkpoints / "gpt2-tiny" / "config.json").read_text())
    tensors = read_checkpoint(trained / "accm" / "caption.pt")
    tensors.pop("clip_project.linear.bias")
    with pytest.raises(UserError, match="1 weights missing .clip_project.linear.bias"):
        build_caption_model(config, PROJECTION, tensors, "caption.pt", PLACE)


def test_the_command_goes_on_from_its_checkpoint(trained, command, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "step-00000002")
    assert command(tmp_path) == 0
    undisturbed = read_checkpoint(trained / "accm" / "caption.pt")
    resumed = read_checkpoint(tmp_path / "accm" / "caption.pt")
    assert undisturbed.keys() == resumed.keys()
    for name, tensor in undisturbed.items():
        if name.endswith("c_attn.bias"):
            # Attention does not see a bias of its keys: its gradient is the rounding's alone, which
            # depends on where in memory a tensor lies, and which AdamW makes as large as any.
            width = len(tensor) // 3
            tensor[width : 2 * width] = resumed[name][width : 2 * width] = 0
        assert torch.equal(resumed[name], tensor), name


def test_a_run_is_not_continued_with_other_budgets(trained, command, capsys):
    before = (trained / "accm" / "caption.pt").read_bytes()
    assert command(trained, "--budgets", "9") == 2
    error = capsys.readouterr().err
    assert "was begun with other settings: budgets was [9, 300], now [9]" in error
    assert (trained / "accm" / "caption.pt").read_bytes() == before


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--text-selection", "nearest"], "text_selection was 'farthest', now 'nearest'"),
        (["--patch-post-layernorm", "false"], "patch_post_layernorm was True, now False"),
        (["--dtype", "bfloat16"], "dtype was 'float32', now 'bfloat16'"),
        (["--prefix-length", "3"], "prefix_length was 4, now 3"),
        (["--questions", "OTHER"], "inputs questions has changed"),
    ],
)
@pytest.mark.parametrize("is_old", [False, True])
def test_a_finished_stage_is_refused_with_what_was_changed(
    trained, command, world, tmp_path, capsys, flags, says, is_old
):
    """Features of their own, so that the folder itself has to notice; also in a folder that is
    older than the record of these flags, which counts as made with their defaults."""
    shutil.copytree(trained / "run", tmp_path / "run")
    if is_old:
        path = tmp_path / "run" / "settings.json"
        settings = json.loads(path.read_text())
        for name in ("text_selection", "patch_post_layernorm", "dtype", "vision_weights"):
            del settings[name]
        path.write_text(json.dumps(settings))
    entries = json.loads((world / "conversations.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(entries[1:]))
    flags = [str(tmp_path / "other.json") if flag == "OTHER" else flag for flag in flags]
    assert command(tmp_path, "--features", str(tmp_path / "features"), *flags) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "settings.json was begun with other settings: " in error and says in error
    assert not (tmp_path / "accm").exists()


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--budgets", "9", "576"], "--budgets has 576: of 576 tokens 1 to 575 can stay"),
        (["--images", "elsewhere"], "0.jpg, which is not there: check the folder of the images"),
        (["--captions", "no.json"], "there is no file no.json"),
        (["--dtype", "float8"], "there is no dtype 'float8'"),
    ],
)
def test_flags_that_do_not_fit(command, tmp_path, capsys, flags, says):
    assert command(tmp_path, *flags) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and says in error[0]
    assert not (tmp_path / "accm").exists()

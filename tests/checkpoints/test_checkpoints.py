"""Weights looked at and converted."""

import json
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from llava.arguments import ModelArguments
from llava.checkpoints.__main__ import main
from llava.checkpoints.download import ALL, PUBLISHED
from llava.model.builder import load_from_arguments
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.loading import locate as locating
from llava.model.loading.llava_config import split_llava
from llava.model.loading.weights import read_checkpoint

ROOT = Path(__file__).parents[2]
MINI = ROOT / "checkpoints" / "accm-mini"


@pytest.fixture
def mini(tmp_path):
    """A copy of the mini model, to be damaged."""
    return Path(shutil.copytree(MINI, tmp_path / "accm-mini"))


def verdicts(folder, capsys):
    status = main(["verify", "--model-path", str(folder)])
    return status, capsys.readouterr().out.splitlines()


def test_a_whole_model_is_ok(mini, capsys):
    status, lines = verdicts(mini, capsys)
    assert status == 0 and len(lines) == 6
    assert all(line.startswith("ok ") for line in lines)
    assert "float16" in lines[0] and "tensors" in lines[0]


def damage_cut(folder):
    path = folder / "longclip-L.pt"
    path.write_bytes(path.read_bytes()[:100_000])


def damage_other(folder):
    shutil.copy(folder / "accm/coco_prefix-009.pt", folder / "accm/llava-RL_prefix-019.pt")


def damage_missing(folder):
    (folder / "model.safetensors").unlink()


def damage_config(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 256}))


def damage_empty(folder):
    (folder / "clip-vit-mini-patch8-96" / "model.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    "damage, part, says",
    [
        (damage_cut, "longclip", "damaged or cut short"),
        (damage_other, "selector", "is not a selector"),
        (damage_missing, "model", "no weights"),
        (damage_config, "model", "of another shape"),
        (damage_empty, "vision_tower", "damaged or cut short (0 bytes"),
    ],
)
def test_a_bad_part_is_named_and_hides_no_other(mini, capsys, damage, part, says):
    damage(mini)
    status, lines = verdicts(mini, capsys)
    assert status == 1 and len(lines) == 6
    bad = [line for line in lines if line.startswith("BAD")]
    assert bad[0].startswith(f"BAD  {part}: ") and says in bad[0]
    assert all("mend" in line for line in bad[1:])  # what cannot be looked at because of it


def test_a_model_that_is_not_there(tmp_path, capsys):
    assert main(["verify", "--model-path", str(tmp_path / "nowhere"), "--no-compensation"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("BAD  model: there is no ") and line.count("nowhere") == 1
    assert line.endswith("python -m llava.checkpoints download all")


@pytest.mark.parametrize(
    "model, flags, way_out",
    [
        ("checkpoints/llava-v1.5-7b", [], "in checkpoints/llava-v1.5-7b: {} download all"),
        (
            "/x y/llava-v1.5-7b",
            [],
            "in /x y/llava-v1.5-7b: {} download all --checkpoints-root '/x y'",
        ),
        (
            "liuhaotian/llava-v1.5-13b",
            [],
            "in checkpoints/llava-v1.5-13b: {} download llava-v1.5-13b clip gpt2 longclip accm",
        ),
        (
            "checkpoints/llava-v1.5-7b",
            ["--no-compensation"],
            "in checkpoints/llava-v1.5-7b: {} download llava-v1.5-7b clip",
        ),
        ("owner/model", [], "published is fetched by: {} download all"),
        ("", [], "published is fetched by: {} download all"),
    ],
)
def test_the_way_to_a_model_is_said_once(monkeypatch, capsys, model, flags, way_out):
    asked = []

    def no_network(repository, **_):
        asked.append(repository)
        raise OSError("ConnectError: no such host")

    monkeypatch.setattr(locating, "snapshot_download", no_network)
    monkeypatch.chdir(ROOT)
    assert main(["verify", "--model-path", model, *flags]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("BAD  model: ")
    assert line.endswith(way_out.format("python -m llava.checkpoints"))
    assert asked == [model] * locating.is_hub_name(model)


def test_parts_that_are_not_there_are_said_each_with_its_command(mini, tmp_path, capsys):
    shutil.rmtree(mini / "accm")
    shutil.rmtree(mini / "gpt2")
    status, lines = verdicts(mini, capsys)
    assert status == 1 and len(lines) == 6
    for name, download in (("gpt2", "gpt2"), ("caption_model", "accm"), ("selector", "accm")):
        (line,) = [line for line in lines if line.startswith(f"BAD  {name}: there is no ")]
        assert line.endswith(f"it is fetched by: python -m llava.checkpoints download {download}")
    assert main(["verify", "--model-path", str(mini), "--gpt2", str(tmp_path / "mine")]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "BAD  gpt2" in line]
    assert line.endswith("mine: check the path, or download it there")


def test_one_problem_of_two_parts_is_one_line(mini, capsys):
    (mini / "config.json").write_text("{")
    status, lines = verdicts(mini, capsys)
    bad = [line for line in lines if "is not valid JSON" in line]
    assert status == 1 and len(bad) == 1 and bad[0].startswith("BAD  model, vision_tower: ")


def test_converted_weights_are_the_same(checkpoints, tmp_path, tiny_settings):
    source, target = checkpoints / "llava-v1.5-tiny", tmp_path / "converted"
    assert main(["convert", str(source), "--output", str(target)]) == 0
    before, after = read_checkpoint(source), read_checkpoint(target)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not list(target.glob("*.bin")) and (target / "tokenizer.model").is_file()
    model = load_from_arguments(ModelArguments(**tiny_settings | {"model_path": str(target)}))
    assert model.language_model.llm.dtype == torch.float32


def test_half_precision_on_request_and_an_interrupted_conversion_goes_on(checkpoints, tmp_path):
    source, target = checkpoints / "llava-v1.5-tiny", tmp_path / "converted"
    words = ["convert", str(source), "--output", str(target), "--dtype", "float16"]
    assert main(words) == 0
    first, second = sorted(target.glob("*.safetensors"))
    assert {t.dtype for t in load_file(first).values()} == {torch.float16}
    kept = first.stat().st_mtime_ns
    content = load_file(second)
    second.unlink()  # as if it had been stopped here
    (target / (second.name + ".partial")).write_bytes(b"half a file")
    assert main(words) == 0
    again = load_file(second)
    assert first.stat().st_mtime_ns == kept and again.keys() == content.keys()
    assert all(torch.equal(again[key], content[key]) for key in content)
    assert not list(target.glob("*.partial"))


@pytest.mark.parametrize("name", ["llava-v1.5-tiny", "accm-mini"])
def test_the_llm_alone_is_a_plain_llama(checkpoints, tmp_path, name):
    """transformers' own loader reads it, and it answers as the LLM of the whole checkpoint."""
    source = MINI if name == "accm-mini" else checkpoints / name
    target = tmp_path / "llm"
    words = ["convert", str(source), "--output", str(target), "--part", "llm"]
    assert main(words) == 0
    llm = LlamaForCausalLM.from_pretrained(target, dtype=torch.float32)
    own = {
        key: tensor.float()
        for key, tensor in split_llava(read_checkpoint(source), "source")["llm"].items()
        if not key.endswith("inv_freq")
    }
    loaded = llm.state_dict()
    assert own.keys() <= loaded.keys() and loaded.keys() - own.keys() <= {"lm_head.weight"}
    assert all(torch.equal(loaded[key], own[key]) for key in own)
    tokenizer = LlamaTokenizer(source)
    ends = (llm.config.bos_token_id, llm.generation_config.eos_token_id)
    assert ends == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert (target / "tokenizer.model").read_bytes() == (source / "tokenizer.model").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in target.glob("*.safetensors")}
    assert main(words) == 0  # what is there is kept
    assert {path: path.stat().st_mtime_ns for path in target.glob("*.safetensors")} == before


def test_an_llm_is_not_mixed_with_other_weights(checkpoints, tmp_path, capsys):
    words = ["convert", str(checkpoints / "llava-v1.5-tiny"), "--output", str(tmp_path / "all")]
    assert main(words) == 0
    assert main([*words, "--part", "llm"]) == 2
    assert "was not made from these weights" in capsys.readouterr().err
    assert main(["convert", str(tmp_path), "--output", "y", "--part", "llm"]) == 2
    assert main(["convert", str(MINI / "accm"), "--output", "y", "--part", "llm"]) == 2
    assert main([*words, "--part", "tower"]) == 2
    assert "--part is 'tower': all or llm" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["dtype", "source", "other"])
def test_weights_of_another_conversion_are_refused(checkpoints, tmp_path, capsys, change):
    source = Path(shutil.copytree(checkpoints / "llava-v1.5-tiny", tmp_path / "source"))
    target = tmp_path / "converted"
    words = ["convert", str(source), "--output", str(target)]
    assert main(words) == 0
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    if change == "dtype":
        words += ["--dtype", "float16"]
    elif change == "source":
        shard = next(source.glob("pytorch_model-*.bin"))
        os.utime(shard, (1, 1))
    else:  # it would be read in place of the shards
        before["model.safetensors"] = (MINI / "model.safetensors").read_bytes()
        (target / "model.safetensors").write_bytes(before["model.safetensors"])
    assert main(words) == 2
    assert "was not made from these weights" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_a_full_disk_is_one_message_and_leaves_no_half_file(checkpoints, tmp_path, capsys):
    target = tmp_path / "converted"
    words = ["convert", str(checkpoints / "llava-v1.5-tiny"), "--output", str(target)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, hard))
    try:
        assert main(words) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "make room there" in capsys.readouterr().err and not list(target.iterdir())


@pytest.mark.parametrize(
    "words, says",
    [
        ([], "say what to do"),
        (["fly"], "say what to do"),
        (["verify"], "say which model"),
        (
            ["verify", "--model-path", "m", "--compensation-options", "chosen=2"],
            "--compensation-options would do nothing without --compensation scene-graph",
        ),
        (
            "verify --model-path m --compensation scene-graph --compensation-options x=2".split(),
            "scene-graph: ",
        ),
        (["convert", "x"], "say what and where to"),
        (["convert", "nowhere", "--output", "y"], "no folder nowhere"),
        (["convert", "tests", "--output", "tests"], "another folder"),
        (["convert", "tests", "--output", "y"], "no weights in tests"),
        (["download"], "say what to fetch"),
        (["download", "gpt5"], "no checkpoint 'gpt5'"),
        (["download", "gpt2", "--checkpoints-root", "x" * 300, "--dry-run"], "cannot look at"),
    ],
)
def test_bad_words_get_one_line(monkeypatch, capsys, words, says):
    monkeypatch.chdir(ROOT)
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_all_means_known_names():
    assert set(ALL) < set(PUBLISHED)

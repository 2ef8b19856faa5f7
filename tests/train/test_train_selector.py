"""The selector stage: what is mined, what is learnt from it, and the file that comes of it."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from llava.model.compensation.builder import load_long_clip, load_selector
from llava.model.compensation.selector import selector_text
from llava.model.loading.placement import Placement
from llava.train import train_selector
from llava.train.arguments import model_arguments
from llava.train.batches import stream_seed
from llava.train.candidates import write_candidates
from llava.train.distributed import Team
from llava.train.packing import Reading
from llava.train.samples import load_asked_images, read_short_questions
from llava.train.stages.arguments import SelectorArguments
from llava.train.stages.selector import (
    ChoiceBatch,
    SelectorData,
    SelectorObjective,
    begin_trying,
    is_mixed,
)
from tests.helpers.plain import IdPacker, prompt

BUDGET = 9
MIXED = [
    {"question": "Is it?", "captions": ["A cat.", "A dog.", "A"], "right": [True, False, True]},
    {"question": "Where?", "captions": ["Left.", "B.", "C."], "right": [False, True, False]},
]
ALIKE = [
    {"question": "What?", "captions": ["x.", "y.", "z."], "right": [True, True, True]},
    {"question": "Who?", "captions": ["x.", "y.", "z."], "right": [False, False, False]},
]


def test_only_mixed_questions_are_mined():
    assert [is_mixed(tried) for tried in (*MIXED, *ALIKE)] == [True, True, False, False]


def test_the_right_captions_share_the_target():
    """By hand: probabilities (1/2, 1/4, 1/4), right are the first and the third, or the second."""
    scores = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
    right = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    sums = SelectorObjective(nn.Identity())(ChoiceBatch(scores, right))
    ln2 = torch.tensor(2.0).log()
    assert torch.allclose(sums["loss"], (1 * ln2 + 2 * ln2) / 2 + 2 * ln2)
    assert (sums["accuracy"], sums["chance"]) == (1, pytest.approx(2 / 3 + 1 / 3))


@torch.no_grad()
def test_data_are_what_the_selector_reads_when_it_answers(model):
    long_clip = model.compensator.long_clip
    batch = SelectorData(MIXED, long_clip).collate([1, 0], torch.Generator())
    assert batch.weight == 2
    assert batch.right.tolist() == [[0, 1, 0], [1, 0, 1]]
    captions = [MIXED[1]["captions"], MIXED[0]["captions"]]
    features, _ = model.compensator.score(["Where?", "Is it?"], captions)
    assert torch.allclose(batch.features, features, atol=1e-5)
    alone = long_clip([selector_text("Where?", "Left.")])[0]
    assert torch.allclose(batch.features[0, 0], alone, atol=1e-5)


@pytest.fixture(scope="module")
def args(tiny_settings):
    return SelectorArguments(**tiny_settings, budget=BUDGET, seed=0, mining_batch_size=2)


@pytest.fixture(scope="module")
def asked(args, world, tmp_path_factory):
    samples = read_short_questions(world / "conversations.json", 3, seed=0)
    cache = tmp_path_factory.mktemp("features")
    return load_asked_images(
        model_arguments(args), Team("cpu"), samples, world / "images", cache, BUDGET
    )


@torch.no_grad()
def test_right_is_what_the_llm_would_write_with_the_caption(model, args, asked, monkeypatch):
    """Each answer is made the LLM's own with the first caption; the others may lead elsewhere."""
    monkeypatch.setattr("llava.train.stages.selector.Packer", IdPacker)
    caption_model, tokenizer = model.compensator.caption_model, model.compensator.tokenizer
    samples, expected = [], []
    for number, sample in enumerate(asked.samples):
        seed = stream_seed(0, "mining", number)
        look = asked.look(number, BUDGET, seed)
        question = [sample.tower_question]
        (found,) = write_candidates(
            caption_model, tokenizer, [look.dropped], question, "sampled", [seed]
        )
        readings = [Reading(look.kept, text, sample.question, "") for text in found.captions]
        prompts = [prompt(model.language_model, reading) for reading in readings]
        written = [w.out_ids for w in model.language_model.generate(prompts, [4] * len(prompts))]
        samples.append(replace(sample, answer=" ".join(map(str, written[0]))))
        right = [ids == written[0] for ids in written]
        record = {"question": question[0], "captions": found.captions, "right": right}
        expected.append(record)
    assert begin_trying(args, replace(asked, samples=samples))([0, 1, 2]) == expected
    assert not all(all(record["right"]) for record in expected)


@pytest.fixture(scope="module")
def command(world, tiny_flags):
    """Runs the stage on the toy world; gives its exit status."""

    def run(folder, *others):
        flags = ["--output-dir", str(folder / "run"), "--mining-batch-size", "2"]
        flags += ["--output", str(folder / "accm" / "selector.pt"), "--budget", str(BUDGET)]
        flags += ["--data", str(world / "conversations.json"), "--images", str(world / "images")]
        flags += "--max-steps 2 --batch-size 2 --warmup-steps 0 --samples 5".split()
        return train_selector.main([*tiny_flags, *flags, *others])

    return run


def test_without_mined_questions_there_is_one_error(command, tmp_path, capsys):
    """The tiny LLM never answers rightly. What was tried is kept, and not tried again."""
    assert command(tmp_path) == 2
    error = capsys.readouterr().err
    assert "error: no question was mined" in error and "try more --samples" in error
    tried = tmp_path / "run" / "tried.jsonl"
    first = tried.read_bytes()
    assert first.count(b"\n") == 5 and b'"right": [false, false, false]' in first
    tried.write_bytes(first[:-10])
    assert command(tmp_path) == 2
    assert tried.read_bytes() == first  # the torn line again, as it was
    assert command(tmp_path, "--budget", "10") == 2
    error = capsys.readouterr().err
    assert "tried.settings.json was begun with other settings: budget was 9, now 10" in error


def test_the_command_writes_what_the_pipeline_loads(command, tmp_path, checkpoints, capsys):
    assert command(tmp_path) == 2  # nothing is mined by itself
    records = [*MIXED, *ALIKE, MIXED[1]]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "run" / "tried.jsonl").write_text(lines)
    assert command(tmp_path) == 0
    assert "3 of 5 questions are answered with some captions only" in capsys.readouterr().out
    place = Placement(torch.device("cpu"), torch.float32)
    long_clip = load_long_clip(checkpoints / "longclip-L.pt", place)
    selector = load_selector(tmp_path / "accm" / "selector.pt", long_clip, place).eval()
    assert len(selector.transformer_encoder.layers) == 4
    scores = selector(SelectorData(MIXED, long_clip).collate([0], torch.Generator()).features)
    assert scores.shape == (1, 3) and scores.isfinite().all()
    record = json.loads((tmp_path / "accm" / "training.json").read_text())["train_selector"]
    assert record["settings"]["tried"] == 5 and record["run"]["samples"] == 3
    assert set(record["outputs"]) == {"selector.pt"}

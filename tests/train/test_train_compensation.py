"""The self-supervised stage: what is lost, what counts, what learns, and what does not matter."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from llava.constants import SHORT_ANSWER_SUFFIX
from llava.model.compensation.builder import load_caption_model, load_selector
from llava.model.loading.placement import Placement
from llava.model.loading.weights import read_checkpoint
from llava.model.sample import Sample
from llava.train import train_compensation
from llava.train.arguments import Plan, TrainArguments, model_arguments
from llava.train.batches import MicroBatch
from llava.train.candidates import write_candidates
from llava.train.distributed import Team
from llava.train.packing import Packer, Reading, answer_log_probs
from llava.train.samples import load_asked_images, read_short_questions
from llava.train.stages.arguments import CompensationArguments
from llava.train.stages.compensation import (
    LONGEST_ANSWER,
    CompensationData,
    CompensationObjective,
    begin_answering,
)
from llava.train.step import Learner, trainable
from tests.helpers.plain import caption_losses
from tests.helpers.processes import run_together

BUDGET = 9
ANSWERS = ["no", "", "dark yellow", "B"]
PLACE = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def asked(world, tiny_settings, tmp_path_factory):
    samples = read_short_questions(world / "conversations.json", 4, seed=0)
    cache = tmp_path_factory.mktemp("features")
    args = CompensationArguments(**tiny_settings)
    return load_asked_images(
        model_arguments(args), Team("cpu"), samples, world / "images", cache, BUDGET
    )


@pytest.fixture(scope="module")
def data(asked):
    return CompensationData(asked, ANSWERS, BUDGET, seed=0)


@pytest.fixture(scope="module")
def batch(data):
    return data.collate([0, 1, 2], torch.Generator().manual_seed(0))


@pytest.fixture
def make(load_tiny):
    """An objective of the tiny model's parts, as the stage makes it."""

    def objective(margins="batch", candidates="sampled"):
        parts = load_tiny()
        writer = parts.compensator
        return CompensationObjective(
            writer.caption_model.requires_grad_(True),
            writer.selector.requires_grad_(True),
            writer.long_clip,
            parts.language_model,
            writer.tokenizer,
            candidates,
            margins,
            llm_batch_size=5,
        ).eval()

    return objective


def test_questions_without_an_answer_are_left_out(data, batch, asked):
    assert len(data) == 3
    assert batch.answers == ["no", "dark yellow", "B"]
    assert batch.samples == [asked.samples[number] for number in (0, 2, 3)]
    assert batch.weight == 3 and len(set(batch.seeds)) == 3
    assert all(len(look.kept) == BUDGET for look in batch.looks)


@torch.no_grad()
def test_what_is_lost_is_the_divergence_from_the_full_reading(make, batch):
    objective = make()
    captions = [["A cat.", "A dog on a road.", ""], ["x", "y", "z"], ["A cat.", "A cat.", "B."]]
    lost = objective.information_lost(batch, captions)
    packer, model = Packer(objective.llm.tokenizer), objective.llm
    for b, (sample, look, answer) in enumerate(zip(batch.samples, batch.looks, batch.answers)):
        full = Reading(look.all, None, sample.question, answer)
        (q,) = answer_log_probs(model, packer, [full], 1)
        for w, caption in enumerate(captions[b]):
            pruned = Reading(look.kept, caption, sample.question, answer)
            (p,) = answer_log_probs(model, packer, [pruned], 1)
            expected = F.kl_div(p, q, reduction="sum", log_target=True) / len(q)
            assert lost[b, w] == pytest.approx(expected.item(), abs=1e-5)
    assert lost.min() > 0 and lost[2, 0] == pytest.approx(lost[2, 1].item(), abs=1e-5)
    assert lost[0].std() > 1e-3


@pytest.mark.parametrize("margins, weights", [("batch", (3.0, 3.0, 3.0)), ("sample", (4, 2, 3))])
def test_margins_and_weights_by_hand(make, batch, monkeypatch, margins, weights):
    """Means 2, 4.5 and 1; best margins 1 (third), 0.5 (first) and 0.75 (second); 4 x mean = 3."""
    objective = make(margins)
    lost = torch.tensor([[2.0, 3.0, 1.0], [4.0, 4.5, 5.0], [1.75, 0.25, 1.0]])
    best = (2, 0, 1)
    monkeypatch.setattr(objective, "information_lost", lambda batch, captions: lost)
    sums = objective(batch)
    model, tokenizer = objective.caption_model, objective._tokenizer
    questions = [sample.tower_question for sample in batch.samples]
    dropped = [look.dropped for look in batch.looks]
    found = write_candidates(model, tokenizer, dropped, questions, "sampled", batch.seeds)
    expected, chosen = 0.0, []
    for b, candidates in enumerate(found):
        question = tokenizer.encode(questions[b], add_special_tokens=False)
        caption, _ = caption_losses(model, dropped[b], question, candidates.ids[best[b]])
        scores = _scores(objective, questions[b], candidates.captions)
        expected += weights[b] * (caption.mean() - scores[best[b]].log())
        chosen.append(scores.argmax().item())
    loss = sums["loss"] * sums.get("batch_weight", torch.tensor(batch.weight)) / batch.weight
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert sums["lost_first"] == lost[:, 0].sum() and sums["lost_best"] == 5.25
    assert torch.allclose(sums["lost_mean"], torch.tensor(7.5))
    assert sums["lost_chosen"] == sum(lost[b, w] for b, w in enumerate(chosen))


def test_a_batchs_margin_is_that_of_the_whole_batch(make, data, monkeypatch, tmp_path):
    """One step in one, two and four forward passes: the same loss and the same gradient."""
    lost = {0: [2.0, 3.0, 1.0], 1: [4.0, 4.5, 5.0], 2: [1.75, 0.25, 1.0], 3: [9.0, 9.0, 0.0]}
    monkeypatch.setattr(data, "_numbers", [0, 1, 2, 3])
    monkeypatch.setattr(data, "_answers", ["no", "yes", "dark yellow", "B"])
    found = []
    for micro in (4, 2, 1):
        objective = make()
        monkeypatch.setattr(
            objective,
            "information_lost",
            lambda batch, captions: torch.tensor([lost[s.number] for s in batch.samples]),
        )
        plan = Plan(1, 4, micro, 1)
        args = TrainArguments(learning_rate=0.0)
        learner = Learner(objective, data, args, plan, [], Team("cpu"))
        objective.eval()  # no dropout: its draws belong to forward passes
        seeds = [11, 12, 13, 14]
        whole = replace(data.collate([0, 1, 2, 3], torch.Generator()), seeds=seeds)
        looks = [data._asked.look(n, BUDGET, seed) for n, seed in enumerate(seeds)]
        parts = []
        for start in range(0, 4, micro):
            own = slice(start, start + micro)
            batch = replace(
                whole,
                samples=whole.samples[own],
                looks=looks[own],
                answers=whole.answers[own],
                seeds=seeds[own],
            )
            parts.append(MicroBatch([*range(4)][own], 0, batch))
        numbers = learner.step(0, parts)
        found.append((numbers["loss"], numbers["grad_norm"], numbers["batch_weight"]))
    assert found[0][2] == pytest.approx(4 * (1 + 0.5 + 0.75 + 6) / 4)
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4)


def _scores(objective, question, captions):
    """The selector's probabilities, as the pipeline computes them."""
    texts = [
        f"Question: {question}  Supplemental information for questions: " + c for c in captions
    ]
    return objective.selector(objective.long_clip(texts)[None])[0].softmax(dim=-1)


def test_gpt2_and_the_selector_learn_and_nothing_else(make, batch):
    objective = make().train()
    assert objective.caption_model.training and objective.selector.training
    assert not objective.llm.training and not objective.long_clip.training
    objective(batch)["loss"].backward()
    learning = {name for name, p in objective.named_parameters() if p.grad is not None}
    assert learning == set(trainable(objective))  # so decay moves nothing else either
    starts = ("caption_model.gpt.", "selector.")
    assert learning == {n for n, _ in objective.named_parameters() if n.startswith(starts)}
    assert all(objective.get_parameter(name).grad.abs().max() > 0 for name in _SOME)


_SOME = ("caption_model.gpt.transformer.wte.weight", "selector.head.weight")


def test_the_answers_are_the_llms_own_with_all_tokens(asked, tiny_settings, prune_only):
    args = CompensationArguments(**tiny_settings, answer_batch_size=2)
    records = begin_answering(args, asked)([2, 0])
    for record, number in zip(records, (2, 0), strict=True):
        question = asked.samples[number]
        image = asked.features.image(asked.places[question.image])
        sample = Sample(
            image, question.question, visual_token_num=576, max_new_tokens=LONGEST_ANSWER
        )
        (answer,) = prune_only.answer([sample])
        assert record == {"answer": answer.text} and answer.text
        assert answer.selection is None


@pytest.fixture(scope="module")
def words(world, tiny_flags):
    """The stage's flags for the toy world."""

    def of(folder, *others):
        flags = ["--output-dir", str(folder / "run"), "--budget", str(BUDGET)]
        flags += ["--caption-output", str(folder / "accm" / "caption.pt")]
        flags += ["--selector-output", str(folder / "accm" / "selector.pt")]
        flags += ["--data", str(world / "conversations.json"), "--images", str(world / "images")]
        flags += "--max-steps 2 --batch-size 2 --warmup-steps 0 --samples 5".split()
        flags += ["--micro-batch-size", "1"]  # which two processes share
        # Far above the real rates: the files hold 16 bits, and two steps shall show in them.
        flags += "--learning-rate 1e-2 --selector-learning-rate 1e-2".split()
        return [*tiny_flags, *flags, *others]

    return of


@pytest.fixture(scope="module")
def command(words):
    """Runs the stage; gives its exit status."""
    return lambda folder, *others: train_compensation.main(words(folder, *others))


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compensation")
    assert command(folder) == 0
    return folder


def test_an_llm_that_says_nothing_is_named(command, tmp_path, monkeypatch, capsys):
    def silent(args, asked):
        return lambda numbers: [{"answer": ""} for _ in numbers]

    monkeypatch.setattr("llava.train.stages.compensation.begin_answering", silent)
    assert command(tmp_path) == 2
    assert "answers every question with nothing" in capsys.readouterr().err


def test_the_command_writes_what_the_pipeline_loads(trained, checkpoints, model):
    before = read_checkpoint(checkpoints / "accm" / "coco_prefix-009.pt")
    after = read_checkpoint(trained / "accm" / "caption.pt")
    for name, tensor in before.items():
        if name in after:
            same = torch.equal(tensor.half(), after[name])
            assert same == name.startswith("clip_project."), name
    width = model.tower.clip.config.projection_dim
    load_caption_model(checkpoints / "gpt2-tiny", trained / "accm" / "caption.pt", width, PLACE)
    long_clip = model.compensator.long_clip
    selector = load_selector(trained / "accm" / "selector.pt", long_clip, PLACE)
    head = model.compensator.selector.head.weight
    assert not torch.allclose(selector.head.weight, head, atol=1e-3)
    record = json.loads((trained / "accm" / "training.json").read_text())["train_compensation"]
    assert set(record["outputs"]) == {"caption.pt", "selector.pt"}
    assert record["settings"]["candidates"] == "beam"


def test_the_datas_answers_change_nothing(trained, command, world, tmp_path):
    """Answers as short as before, so that the same questions are asked."""
    entries = json.loads((world / "conversations.json").read_text())
    turns = [turn for entry in entries for turn in entry["conversations"]]
    for human, gpt in zip(turns[::2], turns[1::2]):
        if human["value"].endswith(SHORT_ANSWER_SUFFIX) or len(gpt["value"]) == 1:
            gpt["value"] = "nonsense"
    (tmp_path / "other.json").write_text(json.dumps(entries))
    assert command(tmp_path, "--data", str(tmp_path / "other.json")) == 0
    for name in ("caption.pt", "selector.pt"):
        expected = read_checkpoint(trained / "accm" / name)
        found = read_checkpoint(tmp_path / "accm" / name)
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_two_processes_do_what_one_does(trained, words, tmp_path):
    """From nothing: one of them makes features and answers, and writes the files."""
    log = tmp_path / "log"
    statuses = run_together(2, "llava.train.train_compensation", words(tmp_path), log)
    assert statuses == [0, 0], log.read_text()
    alone, shared = ((f / "run" / "answers.jsonl").read_text() for f in (trained, tmp_path))
    assert shared == alone
    for name in ("caption.pt", "selector.pt"):
        expected = read_checkpoint(trained / "accm" / name)
        found = read_checkpoint(tmp_path / "accm" / name)
        for key, tensor in expected.items():
            assert torch.allclose(found[key].float(), tensor.float(), atol=1e-3), key


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--margins", "mean"], "--margins is 'mean'; choose batch or sample"),
        (["--candidates", "beams"], "--candidates is 'beams'; choose beam or sampled"),
        (["--selector-output", "selector.pt"], "must lie in one folder"),
        (["--budget", "576"], "--budget has 576: of 576 tokens 1 to 575 can stay"),
        (["--samples", "0"], "--samples is 0: it must be at least 1"),
    ],
)
def test_flags_that_do_not_fit(command, tmp_path, capsys, flags, says):
    assert command(tmp_path, *flags) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and says in error[0]
    assert not (tmp_path / "accm").exists()


def test_a_run_is_not_continued_with_another_rule(trained, command, capsys):
    assert command(trained, "--margins", "sample") == 2
    assert "margins was 'batch', now 'sample'" in capsys.readouterr().err

"""Budgets as a share, through the commands: what is asked, recorded, continued and reported."""

import json
import shutil

import pytest
from PIL import Image

from llava.errors import UserError
from llava.eval import answer, score
from llava.eval.report.comparison import compare
from llava.eval.report.runs import read_run, read_runs
from llava.eval.report.table import terminal_table
from llava.eval.trace import main as trace
from llava.model.sample import Sample
from llava.model.token_pruning.registry import budget_of


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """POPE with one image and three questions."""
    folder = tmp_path_factory.mktemp("pope")
    for name in ("coco", "val2014"):
        (folder / name).mkdir()
    Image.effect_noise((60, 40), 50).convert("RGB").save(folder / "val2014" / "1.jpg")
    for category, label in (("adversarial", "yes"), ("popular", "no"), ("random", "yes")):
        line = {"image": "1.jpg", "text": f"Is there a {category} dog in it?", "label": label}
        (folder / "coco" / f"coco_pope_{category}.json").write_text(json.dumps(line) + "\n")
    return folder


@pytest.fixture(scope="module")
def ask(tiny_flags, data_dir, model):
    """Answers with a budget, and scores; returns the status."""

    def run(budget, path):
        where = ["--data-dir", str(data_dir), "--answers-file", str(path)]
        flags = [*tiny_flags, "--no-compensation", "--batch-size", "3"]
        flags += [] if budget is None else ["--visual-token-num", budget]
        status = answer.main(["pope", *flags, *where])
        if status == 0:
            assert score.main(["pope", *where, "--json", str(path.with_suffix(".json"))]) == 0
        return status

    with pytest.MonkeyPatch.context() as patch:
        prune_only = model.without_captions()
        patch.setattr("llava.eval.caches.load_from_arguments", lambda args: prune_only)
        patch.setattr("llava.eval.benchmarks.llava_files.MAX_NEW_TOKENS", 2)
        yield run


@pytest.fixture(scope="module")
def finished(ask, tmp_path_factory):
    """A folder with the runs of 1/9 and of 64."""
    folder = tmp_path_factory.mktemp("finished")
    assert ask("1/9", folder / "share.jsonl") == ask("64", folder / "number.jsonl") == 0
    return folder


@pytest.fixture
def runs(finished, tmp_path):
    """The answers files of a copy, to be changed."""
    folder = shutil.copytree(finished, tmp_path / "runs")
    return folder / "share.jsonl", folder / "number.jsonl"


def settings_of(path):
    return json.loads((path.with_name(path.name + ".run") / "settings.json").read_text())


def journal_of(path):
    text = (path.with_name(path.name + ".run") / "answers-0.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_share_is_recorded_and_continued(ask, runs, capsys):
    """The settings have the share, each answer its K; the answers are those of the number."""
    share, number = runs
    assert share.read_bytes() == number.read_bytes()
    assert [settings_of(path)["visual_token_num"] for path in runs] == ["1/9", 64]
    assert settings_of(share) == settings_of(number) | {"visual_token_num": "1/9"}
    assert [line["trace"]["visual_token_num"] for line in journal_of(share)] == [64] * 3
    assert not any("visual_token_num" in line["trace"] for line in journal_of(number))
    assert json.loads(share.with_suffix(".json").read_text())["mean_visual_token_num"] == 64
    journal = share.with_name(share.name + ".run") / "answers-0.jsonl"
    whole, answers = journal.read_bytes(), share.read_bytes()
    first = whole[: whole.index(b"\n") + 1]
    journal.write_bytes(first)
    assert ask("1/9", share) == 0
    assert (journal.read_bytes(), share.read_bytes()) == (whole, answers)
    capsys.readouterr()
    assert ask("64", share) == 2
    assert "visual_token_num was '1/9' and is 64" in capsys.readouterr().err


def test_all_tokens_have_one_name(ask, tmp_path):
    """A run that an earlier version began with 576 goes on with all."""
    path = tmp_path / "whole.jsonl"
    assert ask("576", path) == 0
    before = path.read_bytes()
    assert settings_of(path)["visual_token_num"] == 576
    assert ask("all", path) == 0
    assert path.read_bytes() == before and settings_of(path)["method"] == "full"


def test_the_constant_may_be_a_share(ask, tmp_path, monkeypatch):
    monkeypatch.setattr("llava.model.multimodal_encoder.clip_encoder.VISUAL_TOKEN_NUM", "11%")
    path = tmp_path / "constant.jsonl"
    assert ask(None, path) == 0 and settings_of(path)["visual_token_num"] == "11%"
    traces = [line["trace"] for line in journal_of(path)]
    assert [(trace["visual_token_num"], len(trace["kept_idx"])) for trace in traces] == [
        (63, 63)
    ] * 3


def test_a_report_tells_shares_from_numbers(runs):
    """Beside the share it has the mean K; runs of a share are one budget, whatever their means."""
    files = [path.with_suffix(".json") for path in runs]
    found = read_runs(files)
    assert {run.label for run in found} == {"prune (1/9, 64 tokens)", "prune (64 tokens)"}
    assert "1/9, 64" in terminal_table(compare(found))
    result = json.loads(files[0].read_text()) | {"mean_visual_token_num": 50.4}
    files[0].write_text(json.dumps(result))
    assert read_run(files[0]).label == "prune (1/9, 50 tokens)"
    other = result | {"mean_visual_token_num": 60.0, "benchmark": "gqa"}
    files[1].write_text(json.dumps(other))
    (mean,) = compare(read_runs(files)).mean_rows
    assert (mean.share, mean.tokens) == ("1/9", 55)


@pytest.mark.parametrize(
    "change, tokens",
    [
        ({}, 64),  # no journal was beside the answers
        ({"mean_visual_token_num": "many"}, 64),
        ({"settings": {"visual_token_num": "10/9"}}, None),
        ({"settings": {"num_patches": None}}, None),
    ],
)
def test_a_result_file_without_a_mean(runs, change, tokens):
    path = runs[0].with_suffix(".json")
    result = json.loads(path.read_text()) | {"mean_visual_token_num": None}
    settings = result["settings"] | change.get("settings", {})
    path.write_text(json.dumps(result | change | {"settings": settings}))
    if tokens is None:
        with pytest.raises(UserError, match="does not say visual_token_num"):
            read_run(path)
    else:
        assert read_run(path).tokens == tokens


def test_a_trace_has_the_number_of_its_image(tiny_flags, data_dir, tmp_path, monkeypatch, model):
    """A line of requests may have a share, and one that is no share costs only its own answer."""
    prune_only = model.without_captions()
    monkeypatch.setattr("llava.eval.tracing.load_from_arguments", lambda args: prune_only)
    image = str(data_dir / "val2014" / "1.jpg")
    budgets = ["1/4", 144, None, "all", "10/9", "144", 0.25]
    lines = [
        {"id": i, "image": image, "question": "What?", "visual_token_num": budget}
        for i, budget in enumerate(budgets)
    ]
    requests, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = ["--requests", str(requests), "--output", str(output), "--max-new-tokens", "2"]
    flags += ["--no-compensation", "--visual-token-num", "11%"]
    assert trace([*tiny_flags, *flags]) == 1
    share, number, usual, whole, *wrong = map(json.loads, output.read_text().splitlines())
    assert share.pop("visual_token_num") == 144 and "visual_token_num" not in number
    assert share | {"id": 1} == number
    assert (usual["visual_token_num"], len(usual["kept_idx"])) == (63, 63)
    assert len(whole["kept_idx"]) == 576 and "visual_token_num" not in whole
    assert all("or a share of them such as 1/9" in line["error"] for line in wrong)


def test_an_image_with_fewer_tokens_than_asked_is_not_pruned(model, monkeypatch):
    """Where images differ in N, a number above N of one keeps all of it."""
    most = 5 * model.count_tokens()
    few = model.count_tokens(Image.new("RGB", (8, 8)))
    monkeypatch.setattr(model.backbone, "count_tokens", lambda image=None: few if image else most)
    sample = Sample(Image.new("RGB", (8, 8)), "What?", visual_token_num=few + 1, max_new_tokens=1)
    (found,) = model.answer([sample])
    assert found.kept_idx == list(range(few)) and found.pruned is None
    assert found.resolved_num == few == budget_of(sample, few, most).visual_token_num

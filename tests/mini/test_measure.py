"""What captions give back: the arithmetic on scores by hand, and one short run."""

import json
from dataclasses import replace

import numpy as np
import pytest

from llava.eval.benchmarks.question import Question
from llava.eval.scoring import captions as metrics
from llava.method import Method
from llava.mini import by_budget, measure
from llava.mini.benchmarks import write_benchmarks
from llava.mini.measuring.metrics import Result, figures, to_json
from llava.mini.measuring.passes import (
    CANDIDATES,
    CONDITIONS,
    FULL,
    NOTHING,
    PRUNED,
    TRUE,
    Kept,
    Measured,
    ask_all,
)
from llava.mini.measuring.patches import count_kept, patches_on
from llava.mini.measuring.questions import (
    Asked,
    count_phrases,
    false_caption,
    names,
    names_truly,
    read_asked,
)
from llava.mini.measuring.scores import choose
from llava.mini.measuring.table import tables
from llava.mini.scene import Thing
from llava.mm_utils import load_image
from llava.model.sample import Sample

STAR = Thing("star", "red", "small", cell=0, x=12, y=12, radius=7)
RING = Thing("ring", "blue", "large", cell=15, x=84, y=84, radius=10)
RIGHT = "a small red star northwest and a large blue ring southeast."
ASTRAY = "a small red star southeast and a small blue ring southeast."
OTHER = "a large blue ring southeast and a large black ring northeast."


def asked(key, benchmark="pope", kind="color"):
    question = Question(key, key, f"{benchmark} {key}".encode(), "What?", "What?", 8)
    return Asked(benchmark, question, kind, RIGHT, "red star", [STAR, RING])


def result(key, full, pruned, candidates, chosen=0, **about):
    """A question's scores; the patches are those of a 12 x 12 grid."""
    scores = {FULL: full, NOTHING: 0, PRUNED: pruned, TRUE: 1}
    scores |= dict(zip(CANDIDATES, candidates))
    kept = {
        "farthest": Kept({13: "question", 14: "uniform"}, [13]),
        "nearest": Kept({0: "attention", 143: "random"}, [13, 1, 2, 3]),
    }
    measured = Measured(asked(key, **about), {}, [ASTRAY, RIGHT, OTHER], chosen, kept)
    return Result(measured, choose(scores, chosen))


def results():
    """Colours are answered with all tokens, counts are not; POPE has only colours."""
    found = [result(str(i), 1, i % 2, (1, 0, i % 2), chosen=2 * (i % 4 == 0)) for i in range(40)]
    gqa = [result(str(i), 1, 0, (0, 1, 1), 1, benchmark="gqa") for i in range(10)]
    gqa += [
        result(str(i), i % 2, 1, (0, 0, 0), benchmark="gqa", kind="count") for i in range(10, 20)
    ]
    return found + gqa


@pytest.fixture(scope="module")
def found():
    return figures(results(), 144)


def values(numbers):
    return {name: number.value for name, number in numbers.items()}


def test_the_choices_among_candidates():
    scores = dict(zip(CONDITIONS, (1, 0, 0.5, 0.2, 0.7, 0.9, 0.8)))
    assert choose(scores, 1) == pytest.approx(
        {
            "full": 1,
            "nothing": 0,
            "pruned": 0.5,
            "accm": 0.7,
            "first beam": 0.2,
            "random candidate": 0.6,
            "best candidate": 0.9,
            "true caption": 0.8,
        }
    )


def test_benchmarks_weigh_the_same_and_kinds_by_questions(found):
    # POPE: chosen is the first (right) but for every fourth question, whose third is wrong.
    assert found.benchmarks["pope"].scores["accm"].value == pytest.approx(0.75)
    assert found.benchmarks["gqa"].scores["accm"].value == pytest.approx(0.5)
    assert found.mean.scores["accm"].value == pytest.approx(0.625)
    assert found.kinds["color"].scores["accm"].value == pytest.approx(0.8)
    assert found.kinds["color"].questions == 50 and found.mean.questions == 60


def test_recovery(found):
    assert found.benchmarks["pope"].recovery.value == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    pruned, full = (0.5 + 0.5) / 2, (1 + 0.75) / 2
    assert found.mean.recovery.value == pytest.approx((0.625 - pruned) / (full - pruned))
    assert found.kinds["count"].recovery is None  # nothing was lost by pruning
    assert found.answered_kinds == ["color"]
    assert found.answered.recovery.value == pytest.approx((0.875 - 0.25) / (1 - 0.25))


def test_intervals_are_paired():
    """Questions that differ widely, and a gain that is the same for each: no width."""
    same = [result(str(i), 1, i % 5 / 10, [i % 5 / 10 + 0.3] * 3) for i in range(50)]
    group = figures(same, 144).mean
    gain, pruned = group.differences["accm - pruned"], group.scores["pruned"]
    assert pruned.high - pruned.low > 0.05
    assert (gain.low, gain.high) == pytest.approx((0.3, 0.3))
    assert group.recovery.low < 0.375 < group.recovery.high
    draws = group.differences["accm - pruned"].draws / group.differences["full - pruned"].draws
    assert np.allclose(group.recovery.draws, draws)


def test_an_image_is_drawn_with_all_its_questions():
    """Four times the same answers about the same images say no more than once."""
    once = [result(str(i), 1, i % 2, (1, 1, 1)) for i in range(30)]
    alone, together = (figures(once * times, 144).mean.scores["pruned"] for times in (1, 4))
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert together.value == alone.value == 0.5


def test_captions_by_hand():
    one = asked("1")
    assert names(RIGHT, "red star") and not names(OTHER, "red star")
    assert not names("a small red starling.", "red star")
    assert not names("a red ring and a blue star.", "red star")
    assert names_truly(RIGHT, one) and not names_truly(ASTRAY, one)
    assert not names_truly(RIGHT, replace(one, subject=None))
    assert [count_phrases(c, one) for c in (RIGHT, ASTRAY, OTHER)] == [(2, 2), (2, 0), (2, 1)]


@pytest.mark.parametrize(
    "kind, false",
    [
        ("color", "a small black star northwest and a large orange ring southeast."),
        ("shape", "a small red triangle northwest and a large blue circle southeast."),
        ("size", "a large red star northwest and a small blue ring southeast."),
        ("place", "a small red star southeast and a large blue ring northwest."),
        ("relation", "a small red star southeast and a large blue ring northwest."),
        ("count", "a small black star northwest and a large orange ring southeast."),
        ("existence", "a small black star northwest and a large orange ring southeast."),
    ],
)
def test_a_false_caption_is_false_in_what_is_asked(kind, false):
    assert false_caption(replace(asked("1"), kind=kind)) == false


def test_what_is_absent_is_said_to_be_there():
    question = replace(asked("1").question, prompt="Is there a green cross in the image?")
    one = replace(asked("1", kind="existence"), question=question, subject=None)
    assert false_caption(one) == f"a small green cross northwest and {RIGHT}"


def test_what_captions_say(found):
    said = found.captions
    assert values(said.named) == pytest.approx(
        {"chosen": 5 / 6, "first beam": 1, "random candidate": 2 / 3, "any candidate": 1}
    )
    assert values(said.named_truly) == pytest.approx(
        {"chosen": 1 / 6, "first beam": 0, "random candidate": 1 / 3, "any candidate": 1}
    )
    # Ten questions each chose the one caption that is all true and the one that is half true.
    assert said.phrases_true["chosen"].value == pytest.approx((10 + 10 / 2) / 60)


def test_patches_by_hand(found):
    # Of 8 pixels: the four around (12, 12) and their neighbours' centres are 8 pixels away.
    assert patches_on([STAR], 144) == {13}
    assert patches_on([replace(STAR, x=16, y=16)], 144) == {13, 14, 25, 26}
    # With tiles, the same patch of the base view, and of the 24 x 24 patches of 4 pixels behind it
    # those whose centres are at most STAR's radius away.
    in_views = patches_on([STAR], 720)
    assert {patch for patch in in_views if patch < 144} == {13}
    assert {144 + 24 * row + column for row in (2, 3) for column in (2, 3)} <= in_views
    assert max(in_views) < 144 + 24 * 6
    counts = count_kept(Kept({13: "question", 14: "uniform"}, [13]), {13}, 144)
    assert counts["question"] == (1, 1) and counts["uniform"] == (1, 0)
    assert counts["all kept"] == (2, 1) and counts["all patches"] == (144, 1)
    farthest, nearest = found.patches["farthest"], found.patches["nearest"]
    assert farthest.on_subject["question"].value == 1 == farthest.seen.value
    assert farthest.on_any["all kept"].value == 0.5
    assert nearest.seen.value == 0 and nearest.on_any["question"] is None
    assert nearest.on_subject["picked by the question, before the cut"].value == 0.25
    assert farthest.per_image["all patches"].value == 144


def test_json_has_no_infinity(found):
    shown = json.dumps(to_json(found), allow_nan=False)
    assert json.loads(shown)["mean"]["scores"]["accm"]["value"] == pytest.approx(0.625)
    assert "| Mean of all | 60 | 0.875" in tables(found, 9)


@pytest.fixture(scope="module")
def tiny_eval(tmp_path_factory):
    root = tmp_path_factory.mktemp("measure") / "eval"
    root.mkdir()
    sizes = dict.fromkeys(("mme", "mmbench", "pope", "mmvp", "seed", "gqa"), 1) | {"flickr": 3}
    write_benchmarks(root, seed=5, split="test", sizes=sizes)
    return root


def read_short(*args):
    """read_asked with short answers: random weights never stop, and length is what takes time."""
    return [
        replace(one, question=replace(one.question, max_new_tokens=3)) for one in read_asked(*args)
    ]


@pytest.mark.parametrize(
    "benchmarks, limit, count",
    [(["pope", "gqa", "flickr"], ["--limit", "2"], 6), (["mmbench", "mmvp", "seed"], [], 11)],
)
def test_a_short_run(
    tiny_eval, tmp_path, tiny_flags, monkeypatch, capsys, benchmarks, limit, count
):
    monkeypatch.setattr(metrics, "tokenize", lambda java, texts: list(texts))  # seconds each
    monkeypatch.setattr(measure, "read_asked", read_short)
    files = [tmp_path / "out.json", tmp_path / "out.jsonl"]
    flags = ["--data-root", str(tiny_eval), *limit, "--output", str(files[0])]
    flags += ["--questions-file", str(files[1]), "--benchmarks", *benchmarks]
    assert measure.main([*tiny_flags, *flags]) == 0
    numbers = json.loads(files[0].read_text())
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert len(lines) == count == numbers["mean"]["questions"]
    assert list(numbers["benchmarks"]) == benchmarks
    for line in lines:
        assert list(line["answers"]) == list(CONDITIONS) and len(line["captions"]) == 3
        assert all(0 <= score <= 1 for score in line["scores"].values())
        assert {len(kept["reasons"]) for kept in line["kept"].values()} == {9}
    assert "Mean of all" in capsys.readouterr().out


def test_answers_are_those_of_the_model(tiny_eval, model, prune_only):
    """The passes share their stages; the same questions asked one way at a time say the same."""
    asked = read_short(tiny_eval, ["pope"], 3)
    for one in ask_all(model, asked, Method(9), batch_size=2):
        question = one.asked.question
        few = Sample(
            image=load_image(question.image),
            question=question.prompt,
            tower_question=question.tower_question,
            visual_token_num=9,
            max_new_tokens=question.max_new_tokens,
        )
        whole = replace(few, visual_token_num=model.tower.num_patches)
        compensated, full, nothing = model.answer([few, whole, replace(whole, no_image=True)])
        (pruned,) = prune_only.answer([few])
        assert one.captions == compensated.compensation.captions
        assert one.chosen == compensated.compensation.chosen_index
        assert sorted(one.kept["farthest"].reasons) == sorted(compensated.kept_idx)
        given = (full, nothing, pruned, compensated)
        conditions = (FULL, NOTHING, PRUNED, CANDIDATES[one.chosen])
        assert [one.texts[c] for c in conditions] == [answer.text for answer in given]


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "--model-path and --data-root"),
        (["--data-root", "x", "--benchmarks", "vqa"], "--benchmarks vqa"),
        (["--data-root", "x", "--limit", "0"], "--limit 0"),
        (["--data-root", "x", "--no-compensation"], "--no-compensation"),
        (["--data-root", "x"], "there is no file x/kinds.json"),
    ],
)
@pytest.mark.parametrize("command", [measure, by_budget])
def test_wrong_flags(command, flags, message, capsys):
    assert command.main(["--model-path", "m", *flags]) == 2
    assert message in capsys.readouterr().err

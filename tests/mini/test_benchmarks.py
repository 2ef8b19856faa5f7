"""The mini benchmarks, through the readers and scorers of the real ones."""

import hashlib
import json
from collections import Counter, defaultdict
from functools import partial

import pytest

from llava.eval.benchmarks import gqa, mmbench, mme, pope, seed
from llava.eval.benchmarks.flickr import read_references
from llava.eval.benchmarks.registry import BENCHMARKS, FOLDERS, main_number, reader, scorer
from llava.eval.scoring import captions
from llava.mini.benchmarks import write_benchmarks
from llava.mini.benchmarks.drawing import SceneSource, choice
from llava.mini.benchmarks.mmvp import draw_pair
from llava.mini.language import ATTRIBUTES, LETTERS

SCORED = tuple(name for name in BENCHMARKS if name != "flickr")  # that has no one right answer
BEST = {"mme": 2800, "mmbench": 1, "pope": 1, "mmvp": 100, "seed": 100, "gqa": 100}


def answers_of(benchmark, folder):
    """The right answers by key."""
    if benchmark == "mme":
        return {label.key: label.answer for label in mme.read_labels(folder)}
    if benchmark == "mmbench":
        return {str(row.index): row.cells["answer"] for row in mmbench.read_rows(folder)}
    if benchmark == "pope":
        labelled = pope.read_labelled_questions(folder).questions
        return {item.question.key: item.answer for item in labelled}
    if benchmark == "mmvp":
        questions = reader("mmvp").read_questions(folder)
        return {q.key: q.extra["gt_answer"].strip("()").upper() for q in questions}
    if benchmark == "seed":
        return {item.question.key: item.answer for item in seed.read_annotations(folder)[1]}
    return {item.id: item.answer for item in gqa.read_annotations(folder)}


def quoted(benchmark, folder, answer):
    """The number that the benchmark is quoted with, where `answer` gives that to each key."""
    module = reader(benchmark)
    questions = module.read_questions(folder)
    records = [module.answer_record(q, answer(q.key), "id", "mini") for q in questions]
    return main_number(benchmark, scorer(benchmark).score(folder, records))["value"]


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_question_is_known(eval_folder, benchmark):
    questions = reader(benchmark).read_questions(eval_folder / FOLDERS[benchmark][0])
    keys = [question.key for question in questions]
    assert len(set(keys)) == len(keys)
    kinds, scenes = (
        json.loads((eval_folder / name).read_text())[benchmark]
        for name in ("kinds.json", "scenes.json")
    )
    assert set(kinds) == set(scenes) == set(keys)
    for question in questions:
        assert isinstance(question.image, bytes) or question.image.is_file()
        note = scenes[question.key]
        assert note["caption"].endswith(".") and note["caption"].count(" and a ") == 1
        if note["subject"] is not None:
            assert note["subject"] in note["caption"].split(" and a ")[0]


@pytest.mark.parametrize("benchmark", SCORED)
def test_the_truth_scores_best(eval_folder, benchmark):
    folder = eval_folder / FOLDERS[benchmark][0]
    truth = answers_of(benchmark, folder)
    assert quoted(benchmark, folder, truth.__getitem__) == pytest.approx(BEST[benchmark])


def test_a_reference_scores_best_as_a_caption(eval_folder, monkeypatch):
    monkeypatch.setattr(captions, "meteor", lambda *_: 1.0)  # ten seconds and more to start
    folder = eval_folder / "Flickr"
    module = reader("flickr")
    questions = module.read_questions(folder)
    fives = read_references(folder).of(questions)
    records = [
        module.answer_record(question, five[2], "id", "mini")
        for question, five in zip(questions, fives)
    ]
    scores = scorer("flickr").score(folder, records)["five_references"]
    assert scores["BLEU-4"] == pytest.approx(1) and scores["ROUGE-L"] == pytest.approx(1)


@pytest.mark.parametrize(
    "benchmark, answer, score",
    [
        ("mme", "yes", 14 * 50),
        ("mme", "no", 14 * 50),
        ("pope", "yes", 2 / 3),  # F1 of it
        ("pope", "no", 0),
        ("mmvp", "A", 0),
        ("mmvp", "B", 0),
        *(("seed", letter, 25) for letter in LETTERS),
        # Four kinds of four options, and one of two.
        *(("mmbench", letter, 0.3 if letter in "AB" else 0.2) for letter in LETTERS),
        ("gqa", "yes", 100 * 6 / 11 / 2),
        ("gqa", "no", 100 * 6 / 11 / 2),
    ],
)
def test_one_answer_to_all_is_at_chance(eval_folder, benchmark, answer, score):
    folder = eval_folder / FOLDERS[benchmark][0]
    assert quoted(benchmark, folder, lambda key: answer) == pytest.approx(score)


@pytest.mark.parametrize("benchmark", SCORED)
def test_no_kind_has_a_favourite_answer(eval_folder, benchmark):
    truth = answers_of(benchmark, eval_folder / FOLDERS[benchmark][0])
    kinds = json.loads((eval_folder / "kinds.json").read_text())[benchmark]
    tally = defaultdict(Counter)
    for key, answer in truth.items():
        tally[kinds[key], answer in ("yes", "no")][answer] += 1
    for (kind, _), counts in tally.items():
        if (benchmark, kind) == ("gqa", "count"):
            # "three" is among the numbers of a shape's objects and among those of all.
            assert counts.pop("three") == 2 * counts["two"]
        assert len(set(counts.values())) == 1, (kind, counts)


def test_mmvp_pairs_differ_in_one_attribute():
    source = SceneSource(seed=5, split="test", first=0)
    for kind in ATTRIBUTES:
        for _ in range(5):
            scenes, facts = zip(*source.find(partial(draw_pair, kind)).value)
            first, second = (scene.things for scene in scenes)
            differing = [(a, b) for a, b in zip(first, second) if a != b]
            assert len(first) == len(second) and len(differing) == 1
            (a, b), *_ = differing
            assert [k for k in ATTRIBUTES if getattr(a, k) != getattr(b, k)] == [kind]
            assert facts[0].text == facts[1].text
            assert [fact.answer for fact in facts] == [getattr(a, kind), getattr(b, kind)]


def test_wrong_options_are_those_of_other_objects(eval_folder):
    """As many as there are: no colour of the image is left out for one that is not there."""
    source = SceneSource(seed=5, split="test", first=0)
    for turn in range(8):
        found = choice(source, "color", turn)
        there = {thing.color for thing in found.scene.things}
        assert len(there & set(found.value.options)) == min(4, len(there))


def test_the_same_seed_makes_the_same_files(tmp_path):
    sizes = {"mme": 1, "mmbench": 1, "pope": 1, "mmvp": 1, "seed": 1, "gqa": 1, "flickr": 1}
    made = {}
    for name, seed_, split in (("a", 1, "test"), ("b", 1, "test"), ("c", 2, "test")):
        (tmp_path / name).mkdir()
        write_benchmarks(tmp_path / name, seed_, split, sizes)
        made[name] = hashes(tmp_path / name)
    assert made["a"] == made["b"]
    assert not set(made["a"].values()) & set(made["c"].values())


def test_no_two_images_are_the_same(eval_folder):
    """Not within a benchmark, and not in two of them."""
    images = [h for name, h in hashes(eval_folder).items() if "images" in name.lower()]
    assert len(images) == len(set(images)) > 100

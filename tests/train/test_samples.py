"""Questions with short answers, and what pruning for them keeps and drops."""

import json

import pytest
import torch

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.mm_utils import load_image
from llava.model.sample import Sample
from llava.train.distributed import Team
from llava.train.samples import load_asked_images, read_short_questions

SHORT_SUFFIX = "\nAnswer the question using a single word or phrase."


def write(path, *entries):
    """An instruction file; an entry is an image (or None) with questions and answers in turn."""
    records = []
    for image, *texts in entries:
        speakers = ["human", "gpt"] * len(texts)
        turns = [{"from": speaker, "value": text} for speaker, text in zip(speakers, texts)]
        records.append({"id": "x", "conversations": turns} | ({"image": image} if image else {}))
    path.write_text(json.dumps(records))
    return path


@pytest.fixture
def data(tmp_path):
    options = "Where?\nA. left\nB. right\nAnswer with the option's letter from the given choices "
    return write(
        tmp_path / "data.json",
        ("a.jpg", "<image>\nIs it?" + SHORT_SUFFIX, "no", "Describe.", "A very long answer here."),
        (None, "What is 2 + 2?", "4"),
        ("b.jpg", options + "directly.\n<image>", "B", "What is it?", "a big cat"),
    )


def test_only_short_answers_about_images_are_drawn(data):
    samples = read_short_questions(data, 10, seed=0)
    found = {(s.image, s.question.split("\n")[0], s.answer) for s in samples}
    assert found == {
        ("a.jpg", "Is it?", "no"),
        ("b.jpg", "Where?", "B"),
        ("b.jpg", "What is it?", "a big cat"),
    }
    assert [sample.number for sample in samples] == [0, 1, 2]
    by_answer = {sample.answer: sample for sample in samples}
    assert by_answer["no"].tower_question == "Is it?"  # the format is for the LLM alone
    assert by_answer["no"].question == "Is it?" + SHORT_SUFFIX


def test_the_seed_decides_which_and_how_they_are_read(data):
    def drawn(seed):
        return read_short_questions(data, 2, seed)

    assert drawn(0) == drawn(0) and len(drawn(0)) == 2
    assert len({tuple(s.answer for s in drawn(seed)) for seed in range(20)}) == 6
    forms = {
        s.tower_question for seed in range(20) for s in drawn(seed) if s.question[:5] == "Where"
    }
    assert forms == {"Where?", "Where?\nA. left\nB. right"}


@pytest.mark.parametrize("count", [0, -1])
def test_no_samples_are_refused(data, count):
    with pytest.raises(UserError, match=f"--samples is {count}: it must be at least 1"):
        read_short_questions(data, count, 0)


def test_data_without_short_answers_are_refused(tmp_path):
    path = write(tmp_path / "data.json", (None, "Hi?", "yes"), ("a.jpg", "Why?", "It is so big."))
    with pytest.raises(UserError, match="data.json has no question about an image with a short"):
        read_short_questions(path, 5, 0)


@pytest.fixture(scope="module")
def asked(world, tiny_settings, tmp_path_factory):
    samples = read_short_questions(world / "conversations.json", 4, seed=0)
    cache = tmp_path_factory.mktemp("features")
    args = ModelArguments(**tiny_settings)
    return load_asked_images(args, Team("cpu"), samples, world / "images", cache, 9)


@pytest.mark.parametrize("budget", [9, 300])
def test_a_look_is_what_the_pipeline_prunes_of_the_image(asked, prune_only, budget):
    for sample in asked.samples:
        image = asked.features.image(asked.places[sample.image])
        own = Sample(image, sample.question, sample.tower_question, budget, seed=11)
        (selection,) = prune_only.prune(prune_only.encode([own]), [own])
        look = asked.look(sample.number, budget, seed=11)
        assert torch.equal(look.all, image.features)
        assert torch.equal(look.kept, image.features[selection.kept_idx])
        assert torch.equal(look.dropped, image.patch_embeds[selection.dropped_idx])
        assert len(look.kept) == budget and len(look.dropped) == 576 - budget


def test_samples_find_their_own_images(asked, prune_only, world):
    """But for the cache's 16 bits."""
    assert len({sample.image for sample in asked.samples}) > 1
    for sample in asked.samples:
        pixels = prune_only.preprocess([load_image(world / "images" / sample.image)])
        (image,) = prune_only.encode_images(pixels)
        assert torch.allclose(asked.look(sample.number, 9, 0).all, image.features, atol=5e-3)


def load(tiny_settings, world, folder, cache, budget=9):
    samples = read_short_questions(world / "conversations.json", 4, seed=0)
    args = ModelArguments(**tiny_settings)
    return load_asked_images(args, Team("cpu"), samples, folder, cache, budget)


def test_images_that_are_not_there_are_named(tiny_settings, world, tmp_path):
    with pytest.raises(UserError, match=r"\.jpg, which is not there: check the folder"):
        load(tiny_settings, world, tmp_path / "elsewhere", tmp_path)


@pytest.mark.parametrize("budget", [0, 576, -3])
def test_budgets_that_drop_nothing_are_refused(tiny_settings, world, tmp_path, budget):
    with pytest.raises(UserError, match=f"--budget has {budget}: of 576 tokens 1 to 575"):
        load(tiny_settings, world, world / "images", tmp_path, budget)


def test_answers_may_be_as_long_as_is_said(data):
    samples = read_short_questions(data, 10, seed=0, words=5)
    assert "A very long answer here." in {sample.answer for sample in samples}
    with pytest.raises(UserError, match="--answer-words is 0"):
        read_short_questions(data, 10, seed=0, words=0)

"""The answering engine: units of work, images read once, and what one run hands to the next."""

import numpy as np
import pytest
import torch
from PIL import Image

from llava.errors import UserError
from llava.eval.caches import UnitMemory
from llava.eval.engine import Clock, Request, answer_units, units_by_length, units_in_order


def requests(*images):
    return [Request(i, image, "question " * (i % 4 + 1)) for i, image in enumerate(images)]


def test_units_keep_the_questions_of_an_image_together():
    units = units_by_length(requests(*"aabacddddde"), 3)
    seen = [{request.image for batch in unit for request in batch} for unit in units]
    for image in "abcde":
        assert sum(image in images for images in seen) == 1
    assert all(len(batch) <= 3 for unit in units for batch in unit)
    assert sorted(r.id for unit in units for batch in unit for r in batch) == list(range(11))


def test_a_batch_has_questions_of_like_length():
    """Shorter ones are padded to the longest of their batch: here hardly any is."""
    asked = [Request(length, f"{length}.png", "q" * length) for length in (90, 1, 80, 2, 70, 3)]
    units = units_by_length(asked, 2)
    assert [[request.id for request in batch] for (batch,) in units] == [[1, 2], [3, 70], [80, 90]]


def test_units_in_order_are_in_order():
    units = units_in_order(requests(*"abcde"), 2)
    assert [[request.id for request in batch] for (batch,) in units] == [[0, 1], [2, 3], [4]]
    with pytest.raises(UserError, match="at least 1"):
        units_in_order([], 0)


@pytest.fixture
def images(tmp_path):
    """Two image files."""
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for seed, path in enumerate(paths):
        noise = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return paths


def test_the_engine_reads_an_image_once(model, images, monkeypatch):
    """However many batches ask about it, and in whatever order they come."""
    read = []
    preprocess = model.preprocess
    monkeypatch.setattr(model, "preprocess", lambda images: read.append(1) or preprocess(images))
    requests = [
        Request(number, images[number % 2], "What is it?", max_new_tokens=1) for number in range(6)
    ]
    outcomes = list(answer_units(model, units_in_order(requests, 1), Clock()))
    assert [outcome.error for outcome in outcomes] == [None] * 6
    assert len(read) == 2


def test_an_image_that_is_mended_is_answered_as_if_it_had_never_been_broken(prune_only, images):
    """By runs that share encoded images; while it is broken, each of them says so."""
    settings = {"visual_token_num": 30, "max_new_tokens": 2}
    asked = [Request(path.name, path, "What is it?", **settings) for path in images]
    units = units_by_length(asked, 2)

    def answers(memory):
        return list(answer_units(prune_only, units, Clock(), memory))

    undisturbed = answers(None)
    whole, memory = images[1].read_bytes(), UnitMemory()
    images[1].write_bytes(whole[:50])
    for _ in range(2):
        sound, broken = answers(memory)
        assert sound.error is None and sound.answer.out_ids == undisturbed[0].answer.out_ids
        assert broken.answer is None and str(images[1]) in broken.error
    images[1].write_bytes(whole)
    for found in (answers(memory), answers(memory)):
        for one, other in zip(found, undisturbed, strict=True):
            assert one.error is None and one.answer.kept_idx == other.answer.kept_idx
            assert torch.equal(one.answer.first_logits, other.answer.first_logits)

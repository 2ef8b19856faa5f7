"""The tower's outputs on disk are the tower's, and never another tower's or other images'."""

import resource
import shutil

import numpy as np
import pytest
import torch

from llava.errors import UserError
from llava.mm_utils import load_image
from llava.train.features import encode_questions, image_features

IDENTITY = {"vision_tower": {"model.bin": "123"}}


@pytest.fixture(scope="module")
def images(world):
    return sorted((world / "images").iterdir())[:5]


def compute(folder, images, model, identity=IDENTITY):
    return image_features(folder, images, model.tower, model.image_processor, identity, 2)


@pytest.fixture(scope="module")
def cache(images, prune_only, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    compute(folder, images, prune_only)
    return folder


def test_features_are_the_towers(cache, images, prune_only):
    features = compute(cache, images, prune_only)
    assert len(features) == 5
    for number, path in enumerate(images):
        (expected,) = prune_only.encode_images(prune_only.preprocess([load_image(path)]))
        found = features.image(number)
        assert torch.allclose(found.features, expected.features, atol=5e-3)
        assert torch.allclose(found.patch_embeds, expected.patch_embeds, atol=5e-3)
        assert torch.allclose(found.cls_attention, expected.cls_attention, atol=1e-6)
        assert all(t.dtype == torch.float32 for t in vars(found).values())
    assert not torch.allclose(features.image(0).features, features.image(1).features, atol=5e-2)


class NoTower:
    """Must not be asked."""

    tower = image_processor = None


def test_features_are_computed_once_for_all_of_the_images_or_some(cache, images):
    whole = compute(cache, images, NoTower)
    some = compute(cache, [images[3], images[1]], NoTower)
    assert len(whole) == 5 and len(some) == 2
    for number, row in ((0, 3), (1, 1)):
        assert torch.equal(some.image(number).features, whole.image(row).features)
    assert not torch.equal(whole.image(3).features, whole.image(1).features)


def test_a_cache_of_another_tower_is_refused(cache, images):
    with pytest.raises(UserError, match="are of another tower: name another .* or delete it"):
        compute(cache, images, NoTower, {"vision_tower": {"model.bin": "456"}})


def test_a_cache_without_an_image_is_refused(cache, images, tmp_path):
    with pytest.raises(UserError, match=r"are of other images \(no .*new.jpg\): name another"):
        compute(cache, [*images, tmp_path / "new.jpg"], NoTower)


def test_half_made_features_are_made_again(cache, images, prune_only, tmp_path):
    shutil.copytree(cache, tmp_path / "half")
    (tmp_path / "half" / "features.json").unlink()
    np.save(tmp_path / "half" / "features.npy", np.zeros((5, 2, 2), np.float16))
    features = compute(tmp_path / "half", images, prune_only)
    whole = compute(cache, images, prune_only)
    assert np.array_equal(features.features, whole.features)


def test_a_picture_that_is_none_is_named(images, prune_only, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="broken.jpg"):
        compute(tmp_path / "cache", [*images[:1], tmp_path / "broken.jpg"], prune_only)
    assert not (tmp_path / "cache" / "features.json").exists()


def test_a_full_disk_is_told(images, prune_only, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, hard))
    try:
        with pytest.raises(UserError, match="cannot write features to .*make room"):
            compute(tmp_path / "cache", images, prune_only)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(compute(tmp_path / "cache", images, prune_only)) == 5


def test_questions_are_encoded_as_the_pipeline_does(prune_only):
    questions = ["Is there a dog?", "What is it?", "Is there a dog?", "Where? " * 60]
    found = encode_questions(prune_only.tower, prune_only.clip_tokenizer, questions, 2)
    assert list(found) == list(dict.fromkeys(questions))
    tokenizer, tower = prune_only.clip_tokenizer, prune_only.tower
    for question, embed in found.items():
        with torch.no_grad():
            expected = tower.embed_text([tokenizer.encode(question, tower.max_text_length)])
        assert torch.allclose(embed, expected[0], atol=1e-6)

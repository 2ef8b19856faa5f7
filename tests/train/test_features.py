"""The tower's outputs on disk are the tower's, and never another tower's or other images'."""

import resource
import shutil
from types import SimpleNamespace

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
    """Must not be asked but for its settings."""

    tower = SimpleNamespace(select_layer=-2, patch_post_layernorm=True)
    image_processor = None


class OtherLayer(NoTower):
    tower = SimpleNamespace(select_layer=-1, patch_post_layernorm=True)


def test_features_are_computed_once(cache, images):
    assert len(compute(cache, images, NoTower)) == 5


def test_a_cache_of_another_tower_is_refused(cache, images):
    with pytest.raises(UserError, match=r"of another tower \(vision_tower\): .*delete it"):
        compute(cache, images, NoTower, {"vision_tower": {"model.bin": "456"}})
    with pytest.raises(UserError, match=r"of another tower \(select_layer\): .*delete it"):
        compute(cache, images, OtherLayer)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 2, 3, 4], [0, 2, 1, 3, 4]])
def test_a_cache_of_other_images_is_refused(cache, images, order):
    with pytest.raises(UserError, match="are of other images or of another tower .*delete it"):
        compute(cache, [images[number] for number in order], NoTower)


def test_a_cache_of_images_that_were_made_anew_is_refused(cache, images, tmp_path):
    for image in images:
        (tmp_path / image.name).write_bytes(image.read_bytes() + b"\0" * (image == images[2]))
    with pytest.raises(UserError, match=r"of another tower \(files\)"):
        compute(cache, sorted(tmp_path.iterdir()), NoTower)


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
    with pytest.raises(UserError, match="cannot read the image .*gone.jpg.*check the folder"):
        compute(tmp_path / "cache", [*images[:1], tmp_path / "gone.jpg"], prune_only)
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

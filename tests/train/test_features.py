"""The tower's outputs on disk are the tower's, and never another tower's or other images'."""

import dataclasses
import fcntl
import json
import os
import resource
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.mm_utils import load_image, process_images
from llava.model.builder import load_vision
from llava.train.features import encode_questions, image_features


@pytest.fixture(scope="module")
def images(world):
    return sorted((world / "images").iterdir())[:5]


def compute(folder, images, seen):
    return image_features(folder, images, seen, batch_size=2)


@pytest.fixture(scope="module")
def see(tiny_settings):
    """What sees with flags of its own."""
    return lambda **flags: load_vision(ModelArguments(**(tiny_settings | flags)))


@pytest.fixture(scope="module")
def seen(see):
    return see()


@pytest.fixture(scope="module")
def cache(images, seen, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    compute(folder, images, seen)
    return folder


def test_features_are_the_towers(cache, images, prune_only, seen):
    features = compute(cache, images, seen)
    assert len(features) == 5
    for number, path in enumerate(images):
        (expected,) = prune_only.encode_images(prune_only.preprocess([load_image(path)]))
        found = features.image(number)
        assert torch.allclose(found.features, expected.features, atol=5e-3)
        assert torch.allclose(found.patch_embeds, expected.patch_embeds, atol=5e-3)
        assert torch.allclose(found.cls_attention, expected.cls_attention, atol=1e-6)
        assert all(t.dtype == torch.float32 for t in vars(found).values() if t is not None)
    assert not torch.allclose(features.image(0).features, features.image(1).features, atol=5e-2)


@pytest.fixture
def idle(seen, monkeypatch):
    """What sees, but must not be asked to."""
    monkeypatch.setattr(type(seen.tower), "forward", None)
    return seen


def test_features_are_computed_once_for_all_of_the_images_or_some(cache, images, idle):
    whole = compute(cache, images, idle)
    some = compute(cache, [images[3], images[1]], idle)
    assert len(whole) == 5 and len(some) == 2
    for number, row in ((0, 3), (1, 1)):
        assert torch.equal(some.image(number).features, whole.image(row).features)
    assert not torch.equal(whole.image(3).features, whole.image(1).features)


@pytest.mark.parametrize(
    "flags, says",
    [
        ({"patch_post_layernorm": False}, "patch_post_layernorm was True, now False"),
        ({"dtype": "bfloat16"}, "dtype was 'float32', now 'bfloat16'"),
    ],
)
def test_a_cache_made_otherwise_is_refused(cache, images, see, flags, says):
    with pytest.raises(UserError) as caught:
        compute(cache, images, see(**flags))
    assert says in str(caught.value) and "name another folder with --features" in str(caught.value)


@pytest.mark.parametrize(
    "field, value, says",
    [
        ("mm_vision_select_layer", -1, "select_layer was -2, now -1"),
        ("image_aspect_ratio", None, "image_aspect_ratio was 'pad', now None"),
    ],
)
def test_a_checkpoint_that_sees_otherwise_has_a_cache_of_its_own(
    cache, images, see, checkpoints, tmp_path, field, value, says
):
    shutil.copytree(checkpoints / "llava-v1.5-tiny", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config.get("image_aspect_ratio") == "pad"
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(UserError, match=says):
        compute(cache, images, see(model_path=str(tmp_path / "model")))


def test_a_checkpoints_own_vision_weights_have_a_cache_of_their_own(cache, images, see):
    own = see()
    with torch.no_grad():
        own.tower.clip.vision_model.post_layernorm.bias += 1
    with pytest.raises(UserError, match="vision_weights has changed"):
        compute(cache, images, own)


def test_images_are_brought_to_the_tower_as_the_checkpoint_says(seen, tmp_path):
    """A picture that is wider than high, seen whole (padded) or its middle alone."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 90, 3), np.uint8)
    image = tmp_path / "wide.png"
    Image.fromarray(noise).save(image)
    found = {}
    for ratio in ("pad", None):
        other = dataclasses.replace(seen, image_aspect_ratio=ratio)
        found[ratio] = compute(tmp_path / str(ratio), [image], other).image(0).features
        pixels = process_images([load_image(image)], seen.image_processor, ratio)
        with torch.inference_mode():
            (expected,) = seen.tower(pixels)
        assert torch.allclose(found[ratio], expected.features, atol=5e-3)
    assert not torch.allclose(found["pad"], found[None], atol=5e-2)


def test_an_older_cache_that_does_not_say_enough_is_refused(cache, images, seen, tmp_path):
    shutil.copytree(cache, tmp_path / "old")
    mark = json.loads((cache / "features.json").read_text())
    mark["identity"] = {"vision_tower": mark["identity"]["vision_tower"]}
    mark["images"] = list(mark["images"])
    (tmp_path / "old" / "features.json").write_text(json.dumps(mark))
    with pytest.raises(UserError, match="are older than the record of all that they depend on"):
        compute(tmp_path / "old", images, seen)


def test_a_cache_without_an_image_is_refused(cache, images, seen, world, tmp_path):
    shutil.copy(images[0], tmp_path / "new.jpg")
    with pytest.raises(UserError, match=r"are of other images \(no .*new.jpg\): name another"):
        compute(cache, [*images, tmp_path / "new.jpg"], seen)


def test_an_image_that_was_replaced_is_named(images, seen, tmp_path):
    copies = [shutil.copy(image, tmp_path) for image in images[:2]]
    copies = [tmp_path / os.path.basename(copy) for copy in copies]
    compute(tmp_path / "cache", copies, seen)
    copies[1].write_bytes(images[2].read_bytes() + b"\0")
    with pytest.raises(UserError, match=f"are of other images .{copies[1]} has changed"):
        compute(tmp_path / "cache", copies, seen)


def test_one_run_alone_computes(images, seen, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is computing the features in"):
            compute(folder, images, seen)
    assert len(compute(folder, images, seen)) == 5


def test_half_made_features_are_made_again(cache, images, seen, tmp_path):
    shutil.copytree(cache, tmp_path / "half")
    (tmp_path / "half" / "features.json").unlink()
    np.save(tmp_path / "half" / "features.npy", np.zeros((5, 2, 2), np.float16))
    features = compute(tmp_path / "half", images, seen)
    whole = compute(cache, images, seen)
    assert np.array_equal(features.features, whole.features)


def test_a_picture_that_is_none_is_named(images, seen, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="broken.jpg"):
        compute(tmp_path / "cache", [*images[:1], tmp_path / "broken.jpg"], seen)
    assert not (tmp_path / "cache" / "features.json").exists()


def test_a_full_disk_is_told(images, seen, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, hard))
    try:
        with pytest.raises(UserError, match="cannot write features to .*make room"):
            compute(tmp_path / "cache", images, seen)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(compute(tmp_path / "cache", images, seen)) == 5


def test_questions_are_encoded_as_the_pipeline_does(prune_only):
    questions = ["Is there a dog?", "What is it?", "Is there a dog?", "Where? " * 60]
    found = encode_questions(prune_only.tower, prune_only.clip_tokenizer, questions, 2)
    assert list(found) == list(dict.fromkeys(questions))
    tokenizer, tower = prune_only.clip_tokenizer, prune_only.tower
    for question, embed in found.items():
        with torch.no_grad():
            expected = tower.embed_text([tokenizer.encode(question, tower.max_text_length)])
        assert torch.allclose(embed, expected[0], atol=1e-6)

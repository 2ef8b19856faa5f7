"""Which pictures look like drawn scenes."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava.mini.drawing import draw_scene
from llava.mini.likeness import looks_drawn
from llava.mini.scene import SPLITS, make_scene, scene_generator
from llava.mm_utils import load_image

ROOT = Path(__file__).parents[2]
SIDE = 96


@pytest.fixture(scope="module")
def scenes():
    return [
        draw_scene(make_scene(scene_generator(seed, split, number)))
        for seed in (0, 5)
        for split in SPLITS
        for number in range(12)
    ]


def as_jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return load_image(buffer.getvalue())


CHANGES = {
    "as it is": lambda image: image,
    "JPEG": as_jpeg,
    "larger": lambda image: image.resize((500, 500)),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "wide": lambda image: image.resize((200, 100)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_scene_does(scenes, change):
    assert all(looks_drawn(change(scene)) for scene in scenes)


@pytest.mark.parametrize("change", [CHANGES["as it is"], CHANGES["JPEG"]], ids=["as it is", "JPEG"])
def test_every_scene_of_twice_the_size_does(change):
    drawn = [
        draw_scene(make_scene(scene_generator(seed, split, number), scale=2))
        for seed in (0, 5)
        for split in SPLITS
        for number in range(12)
    ]
    assert all(looks_drawn(change(scene), scale=2) for scene in drawn)


def test_the_scene_that_comes_along_does():
    assert looks_drawn(load_image(ROOT / "images" / "scene.png"))


def noise(generator, spread):
    values = generator.normal(128, spread, (SIDE, SIDE, 3)).clip(0, 255)
    return Image.fromarray(values.astype(np.uint8))


def ramp(low, high, channels=(1, 1, 1)):
    row = np.linspace(low, high, SIDE)[None, :, None] * np.array(channels)
    return Image.fromarray(np.broadcast_to(row, (SIDE, SIDE, 3)).astype(np.uint8))


def others():
    generator = np.random.default_rng(0)
    for spread in (0, 7, 20, 60, 120):
        yield f"noise of {spread}", noise(generator, spread)
    grain = Image.effect_noise((300, 200), 60).convert("RGB")
    yield "coarse noise", grain.resize((30, 20)).resize((300, 200))
    for low, high in ((0, 255), (100, 160), (255, 0)):
        yield f"ramp from {low} to {high}", ramp(low, high)
    yield "ramp of a colour", ramp(0, 255, (1, 0.3, 0.1))
    yield "radial", Image.radial_gradient("L").convert("RGB")
    yield "linear", Image.linear_gradient("L").convert("RGB").resize((640, 480))
    for colour in ("black", "white", "red", "grey"):
        yield colour, Image.new("RGB", (50, 40), colour)
    checks = np.indices((SIDE, SIDE)).sum(axis=0) // 12 % 2 * 255
    yield "checks", Image.fromarray(checks.astype(np.uint8)).convert("RGB")
    yield "one pixel", Image.new("RGB", (1, 1), (130, 130, 130))


@pytest.mark.parametrize("image", [pytest.param(i, id=name) for name, i in others()])
@pytest.mark.parametrize("scale", [1, 2])
def test_noise_gradients_and_flat_pictures_do_not(image, scale):
    assert not looks_drawn(image, scale)


@pytest.mark.parametrize("scale", [1, 2])
def test_photographs_do_not(shared_benchmarks, scale):
    """Every third of MMVP's; of the others none does either."""
    photographs = sorted((shared_benchmarks / "mmvp" / "MMVP Images").glob("*.jpg"))
    assert len(photographs) == 300
    drawn = [path.name for path in photographs[::3] if looks_drawn(load_image(path), scale)]
    assert not drawn

import numpy as np
import pytest
import torch
from PIL import Image

from llava.errors import UserError
from llava.mm_utils import (
    expand2square,
    load_image,
    pad_left,
    process_images,
    square_view,
    tokenizer_image_token,
)


def test_pixels_are_bit_identical_to_the_recorded(golden, model):
    recorded = golden.arrays("pixel_values.npz")
    for name, path in golden.image_paths().items():
        pixels = process_images([load_image(path)], model.image_processor, "pad")
        assert pixels.dtype == torch.float32
        assert np.array_equal(pixels[0].numpy(), recorded[name]), name


def test_padding_puts_the_content_in_the_middle():
    wide = Image.new("RGB", (4, 1), (9, 9, 9))
    square = np.asarray(expand2square(wide, (1, 2, 3)))
    assert square.shape == (4, 4, 3)
    assert (square[1] == 9).all()  # (4 - 1) // 2 rows above it
    assert (square[[0, 2, 3]] == (1, 2, 3)).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "LA"])
def test_every_common_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (5, 3), (200, 200, 200)).convert(mode).save(path)
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (5, 3))


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    grey = np.asarray(load_image(tmp_path / "deep.png"))[0, :, 0]
    assert grey.tolist() == [0, 1, 128, 255]


def test_an_animation_shows_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "moving.gif").getpixel((0, 0)) == (255, 0, 0)


def test_the_bytes_of_an_image_are_read_too(tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    assert load_image((tmp_path / "red.png").read_bytes()).getpixel((2, 1)) == (255, 0, 0)


def test_the_square_that_the_tower_sees(model):
    wide = Image.linear_gradient("L").resize((60, 20)).convert("RGB")
    assert square_view(wide, model.image_processor, "pad").size == (60, 60)
    middle = square_view(wide, model.image_processor, None)
    assert np.array_equal(np.asarray(middle), np.asarray(wide.crop((20, 0, 40, 20))))


def test_one_pixel_is_an_image(tmp_path, model):
    Image.new("RGB", (1, 1), "white").save(tmp_path / "one.png")
    image = load_image(tmp_path / "one.png")
    assert process_images([image], model.image_processor, "pad").shape == (1, 3, 336, 336)


def _bad_image(folder, kind):
    path = folder / f"{kind}.png"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no image at all")
    elif kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:-4000])
    elif kind == "huge":
        Image.new("L", (30_000, 10)).save(path)
    elif kind == "deep":
        path = path.with_suffix(".tif")
        Image.fromarray(np.array([[0, 255]], dtype=np.int32)).save(path)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind, says",
    [
        ("missing", "there is no image"),
        ("folder", "no file to read"),
        ("x" * 300, "File name too long"),
        ("empty", "0 bytes"),
        ("deep", "32 bits a channel"),
        ("text", "cannot be read as an image"),
        ("truncated", "cut short"),
        ("huge", "30000 x 10 pixels"),
    ],
)
def test_a_bad_image_is_named_with_what_is_wrong(tmp_path, kind, says):
    path = _bad_image(tmp_path, kind)
    with pytest.raises(UserError, match=says) as error:
        load_image(path)
    assert str(path) in str(error.value) or kind == "deep"


def test_prompt_ids_are_the_recorded_ones(bundled, model):
    encode = model.language_model.tokenizer.encode
    prompts = bundled.json("prompts.json")
    for case in prompts["tokenizer_image_token"]:
        assert tokenizer_image_token(case["text"], encode) == case["ids"], case["text"]
    for case in prompts["conversations"]:
        if not case.get("error"):
            assert tokenizer_image_token(case["prompt"], encode) == case["ids"], case["mode"]


def test_padding_on_the_left():
    rows = [torch.ones(1, 2), torch.ones(3, 2)]
    padded, mask = pad_left(rows)
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert torch.equal(padded, mask.unsqueeze(-1).expand(-1, -1, 2).float())


def test_padding_to_a_multiple():
    rows = [torch.ones(1, 2), torch.ones(9, 2)]
    padded, mask = pad_left(rows, multiple=8)
    assert padded.shape == (2, 16, 2)
    assert mask.sum(dim=1).tolist() == [1, 9]
    assert torch.equal(padded[:, :, 0], mask.float())
    assert pad_left(rows[:1] * 2, multiple=1)[0].shape == (2, 1, 2)

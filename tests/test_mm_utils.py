import io

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from llava import mm_utils
from llava.errors import UserError
from llava.mm_utils import (
    CLIP_BACKGROUND,
    expand2square,
    load_image,
    pad_left,
    process_images,
    square_view,
    to_rgb,
    tokenizer_image_token,
)
from tests.helpers.processes import start


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


def as_file(image, kind="PNG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


GRADIENT = np.linspace(0, 65535, 48).reshape(6, 8)
LETTERED = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8))
TRANSPARENT = LETTERED.quantize(8)
TRANSPARENT.info["transparency"] = bytes([0, 128, 255])
KINDS = {
    "16 bits": (Image.fromarray(GRADIENT.astype(np.uint16)), "PNG"),
    "16 bits, big-endian": (Image.fromarray(GRADIENT.astype(">u2")), "TIFF"),
    "palette": (LETTERED.quantize(8), "GIF"),
    "palette, transparent": (TRANSPARENT, "PNG"),
    "grey, transparent": (LETTERED.convert("LA"), "PNG"),
    "transparent": (LETTERED.convert("RGBA"), "PNG"),
    "one bit": (LETTERED.convert("1"), "PNG"),
    "for print": (LETTERED.convert("CMYK"), "TIFF"),
    "lightness": (Image.new("LAB", (8, 6), (120, 20, 30)), "TIFF"),
}


@pytest.mark.filterwarnings("ignore")  # Pillow warns of transparency
@pytest.mark.parametrize("image, kind", KINDS.values(), ids=KINDS)
def test_a_file_and_an_image_are_read_alike(tmp_path, model, image, kind):
    data = as_file(image, kind)
    (tmp_path / "image").write_bytes(data)
    expected = np.asarray(load_image(data))
    for read in (
        load_image(tmp_path / "image"),
        to_rgb(image),
        to_rgb(Image.open(io.BytesIO(data))),
    ):
        assert read.mode == "RGB" and read.info == {}
        assert np.array_equal(np.asarray(read), expected)
    pixels = process_images([image], model.image_processor, "pad")
    assert torch.equal(pixels, process_images([to_rgb(image)], model.image_processor, "pad"))


def test_sixteen_bits_of_an_image_are_those_of_a_file():
    image = Image.fromarray(GRADIENT.astype(np.uint16))
    assert np.array_equal(np.asarray(to_rgb(image))[..., 1], GRADIENT.astype(int) // 256)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused_from_a_file_and_from_an_image(mode):
    image = Image.new(mode, (8, 6), 7)
    for read in (lambda: load_image(as_file(image, "TIFF")), lambda: to_rgb(image)):
        with pytest.raises(UserError, match=f"mode {mode} .32 bits a channel"):
            read()


def test_reading_leaves_the_image_as_it_is():
    image = LETTERED.copy()
    image.getexif()[ExifTags.Base.Orientation] = 3
    image.info["dpi"] = (72, 72)
    to_rgb(image, upright=True).putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(np.asarray(image), np.asarray(LETTERED)) and "dpi" in image.info


# What brings the upright image to the way in which a camera of each orientation stores it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation, stored", STORED.items())
def test_photographs_are_upright_for_people_only(kind, orientation, stored):
    sideways = LETTERED if stored is None else LETTERED.transpose(stored)
    note = Image.Exif()
    note[ExifTags.Base.Orientation] = orientation
    settings = {"lossless": True} if kind == "WEBP" else {}
    data = as_file(sideways, kind, exif=note, **settings)
    upright = load_image(data, upright=True)
    assert np.array_equal(np.asarray(upright), np.asarray(LETTERED))
    assert to_rgb(upright, upright=True).tobytes() == upright.tobytes()  # and not once more
    opened = Image.open(io.BytesIO(data))
    assert to_rgb(opened, upright=True).tobytes() == LETTERED.tobytes()
    as_llava = LETTERED if kind == "TIFF" else sideways  # TIFF is set upright by Pillow itself
    assert load_image(data).tobytes() == as_llava.tobytes()


@pytest.mark.filterwarnings("ignore")  # Pillow warns of them
@pytest.mark.parametrize("note", [b"Exif\0\0junk", b"Exif\0\0MM\0*\0\0\0\x08\0\xff", b""])
def test_damaged_notes_of_the_camera_cost_nothing(note):
    data = as_file(LETTERED, exif=note)
    assert load_image(data, upright=True).tobytes() == LETTERED.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (336, 100), (500, 375), (399, 640)])
@pytest.mark.parametrize("strip", [1, 5000, mm_utils.STRIP_PIXELS])
def test_a_square_in_strips_is_the_whole_square_scaled(monkeypatch, size, strip):
    monkeypatch.setattr(mm_utils, "STRIP_PIXELS", strip)
    image = Image.effect_noise(size, 90).convert("RGB")
    whole = expand2square(image, CLIP_BACKGROUND).resize((336, 336), Image.Resampling.BICUBIC)
    assert expand2square(image, CLIP_BACKGROUND, 336).tobytes() == whole.tobytes()


def test_a_small_file_takes_little_memory(tmp_path):
    """Squares of 89 million pixels, or a strip that would be scaled to a billion."""
    process = start("tests.helpers.image_memory", [], tmp_path / "log")
    process.join()
    assert process.exitcode == 0, (tmp_path / "log").read_text()
    assert int((tmp_path / "log").read_text()) < 300  # MB


def test_only_what_is_far_out_is_cut_off_where_the_middle_is_seen(model):
    processor = model.image_processor
    for size in ((160, 10), (10, 160), (50, 40)):
        image = Image.effect_noise(size, 90).convert("RGB")
        expected = processor([image], return_tensors="pt")["pixel_values"]
        assert torch.equal(process_images([image], processor, None), expected)
    long = Image.linear_gradient("L").resize((2001, 9)).convert("RGB")
    assert process_images([long], processor, None).shape == (1, 3, 336, 336)


def seeds():
    photograph = Image.effect_noise((24, 18), 90)
    note = Image.Exif()
    note[ExifTags.Base.Orientation] = 6
    frames = [photograph.convert("P"), Image.new("P", (24, 18), 3)]
    return [
        as_file(photograph.convert("RGBA"), "PNG", exif=note),
        as_file(Image.fromarray(GRADIENT.astype(np.uint16)), "PNG"),
        as_file(photograph.convert("RGB"), "JPEG", exif=note),
        as_file(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        as_file(photograph.convert("CMYK"), "TIFF", compression="tiff_lzw", exif=note),
        as_file(photograph.convert("RGB"), "WEBP", exif=note),
        as_file(photograph.convert("1"), "BMP"),
        as_file(photograph, "PPM"),
    ]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it mends by itself
def test_any_bytes_are_an_image_or_one_line(fuzz):
    def read(content):
        for upright in (False, True):
            image = load_image(content, upright)
            assert image.mode == "RGB" and min(image.size) > 0

    fuzz(read, seeds())


def test_an_animation_shows_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "moving.gif").getpixel((0, 0)) == (255, 0, 0)


def test_the_bytes_of_an_image_are_read_too(tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    assert load_image((tmp_path / "red.png").read_bytes()).getpixel((2, 1)) == (255, 0, 0)


def test_the_square_that_the_tower_sees(model):
    wide = Image.linear_gradient("L").resize((60, 20)).convert("RGB")
    padded = square_view(wide, model.image_processor, "pad", 30)
    whole = expand2square(wide, CLIP_BACKGROUND)
    assert whole.size == (60, 60)
    assert np.array_equal(np.asarray(padded), np.asarray(whole.resize((30, 30))))
    middle = square_view(wide, model.image_processor, None, 20)
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

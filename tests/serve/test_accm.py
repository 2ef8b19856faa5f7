"""The three lines of the README, and what else they take."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import llava
from llava import Accm, mm_utils
from llava.errors import UserError
from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from llava.model.about import About
from llava.serve import accm as serve

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "checkpoints" / "accm-mini"


@pytest.fixture(scope="module")
def accm():
    return Accm.from_pretrained(MODEL, visual_token_num=9, device="cpu")


@pytest.fixture(scope="module")
def scene():
    return make_scene(scene_generator(7, "test", 3))


@pytest.fixture(scope="module")
def image(scene):
    return draw_scene(scene)


FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".JPEG": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
}


def colour_question(thing):
    return f"What color is the {thing.shape}?\nAnswer the question using a single word or phrase."


def test_a_share_gives_the_answers_of_its_number(accm, scene, image):
    questions = [colour_question(thing) for thing in scene.things]
    by_share, by_number = (accm.answer(image, questions, budget) for budget in ("1/4", 36))
    for share, number in zip(by_share, by_number, strict=True):
        assert (share.text, share.caption, share.kept_idx) == (
            *(number.text, number.caption, number.kept_idx),
        )
        assert "36 of 144 visual tokens" in repr(share)
        assert (share.answer.resolved_num, number.answer.resolved_num) == (36, None)
    (whole,) = accm.answer(image, questions[:1], "all")
    assert len(whole.kept_idx) == 144 and whole.caption is None
    assert "1/9 of 144 visual tokens" in repr(serve.Accm(accm.model, "1/9"))
    for wrong in ("36", "10/9", "many", 0.25):
        with pytest.raises(UserError, match="visual_token_num is .*or a share"):
            accm.answer(image, questions, wrong)


def test_the_lines_of_the_readme_run_as_written(monkeypatch, tmp_path):
    code = next(
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
        if "from llava import Accm" in block
    )
    monkeypatch.chdir(ROOT)
    names = {}
    exec(code.replace('"trace.png"', repr(str(tmp_path / "trace.png"))), names)
    assert names["result"].text and (tmp_path / "trace.png").is_file()


def test_a_result_says_how_it_came_about(accm, image, scene):
    result = accm.answer(image, colour_question(scene.things[0]))
    assert isinstance(result.text, str) and result.text
    assert len(result.kept_idx) == 9
    assert result.caption in [c.strip() for c in result.answer.compensation.captions]
    assert set(result.seconds) > {"encode", "caption", "decode"}
    assert "Tensor" not in repr(result)


def test_another_pruner_chooses_the_tokens(accm, image, scene):
    ask = (image, colour_question(scene.things[0]))
    other = serve.Accm(accm.model, 9, "scope", {"alpha": 2})
    assert "; pruner scope; " in repr(other) and "pruner" not in repr(accm)
    by_other = other.answer(*ask).kept_idx
    by_name = accm.answer(*ask, pruner="scope", pruner_options=["alpha=2"]).kept_idx
    assert by_other == by_name != accm.answer(*ask).kept_idx
    assert other.answer(*ask, pruner="scope").kept_idx != by_other  # by its defaults
    with pytest.raises(UserError, match="did you mean cdpruner"):
        serve.Accm.from_pretrained(MODEL, pruner="cd-pruner")


def test_all_tokens_need_no_caption(accm, image, scene):
    circle = scene.things[2]  # the only one
    result = accm.answer(image, colour_question(circle), visual_token_num=144)
    assert result.caption is None and len(result.kept_idx) == 144
    assert result.text == circle.color


def test_lists_give_batches_and_the_same_answers(accm, image, scene):
    questions = [colour_question(thing) for thing in scene.things]
    together = accm.answer(image, questions)
    assert [r.text for r in together] == [accm.answer(image, q).text for q in questions]
    assert [r.text for r in accm.answer([image] * len(questions), questions)] == [
        r.text for r in together
    ]
    assert [r.text for r in accm.answer([image], questions[0])] == [together[0].text]
    assert accm.answer([], "What?") == []


def test_the_batch_size_changes_no_answer(accm, image, scene, monkeypatch):
    questions = [colour_question(thing) for thing in scene.things][:3]
    images = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)] * 2
    pairs = [[each for each in images for _ in questions], questions * len(images)]
    batches, answer = [], accm.model.answer
    monkeypatch.setattr(
        accm.model, "answer", lambda batch, **of: batches.append(len(batch)) or answer(batch, **of)
    )
    found = [accm.answer(*pairs, **how) for how in ({}, {"batch_size": 1}, {"batch_size": 5})]
    assert batches == [8, 4] + [1] * 12 + [5, 5, 2]
    for results in found[1:]:
        assert [r.text for r in results] == [r.text for r in found[0]]
        assert [r.kept_idx for r in results] == [r.kept_idx for r in found[0]]


def test_an_answer_without_words_is_explained(accm, scene, image):
    with pytest.warns(UserWarning, match="(?s)¿De qué color.* before a word.* in English"):
        silent = accm.answer(image, "¿De qué color es la estrella?")
    assert silent.text == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accm.answer(image, colour_question(scene.things[0])).text


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "8"])
def test_a_batch_size_that_is_none(accm, image, number):
    with pytest.raises(UserError, match="batch_size is "):
        accm.answer(image, "What?", batch_size=number)


def test_what_is_wrong_shows_before_anything_is_answered(accm, image, monkeypatch):
    monkeypatch.setattr(accm.model, "encode_images", None)
    with pytest.raises(UserError, match="is empty"):
        accm.answer(image, ["What?"] * 3 + [" "], batch_size=1)


@pytest.mark.parametrize("kind", ["path", "bytes", "image"])
def test_an_image_is_opened_and_encoded_once(accm, image, tmp_path, monkeypatch, kind):
    path = tmp_path / "scene.png"
    image.save(path)
    sources = {
        "path": [str(path), path] * 3,
        "bytes": [path.read_bytes() for _ in range(6)],
        "image": [image] * 6,
    }
    opened, encoded = [], []
    to_rgb, encode = mm_utils.to_rgb, accm.model.encode_images
    for module in (llava.images, mm_utils, serve):
        monkeypatch.setattr(module, "to_rgb", lambda *a, **k: opened.append(1) or to_rgb(*a, **k))
    monkeypatch.setattr(
        accm.model, "encode_images", lambda pixels: encoded.append(len(pixels)) or encode(pixels)
    )
    questions = [f"What color is thing {number}?" for number in range(6)]
    assert len(accm.answer(sources[kind], questions, max_new_tokens=1)) == 6
    assert (len(opened), sum(encoded)) == (1, 1)


def test_a_photograph_is_seen_upright(accm, image, scene, tmp_path):
    """Stored sideways as a phone does it, from a file or opened: as if it had been upright."""
    path = tmp_path / "phone.png"
    note = Image.Exif()
    note[ExifTags.Base.Orientation] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=note)
    question = colour_question(scene.things[0])
    expected = accm.answer(image, question)
    with Image.open(path) as opened:
        for source in (path, path.read_bytes(), opened):
            result = accm.answer(source, question)
            assert (result.text, result.kept_idx) == (expected.text, expected.kept_idx)
            picture = (24, 24, 696, 696)  # of the figure
            shown, wanted = (each.figure().crop(picture) for each in (result, expected))
            assert shown.tobytes() == wanted.tobytes()


def test_images_of_all_kinds_are_read_as_files_are(accm, tmp_path):
    deep = Image.fromarray(np.linspace(0, 65535, 96 * 96).reshape(96, 96).astype(np.uint16))
    deep.save(tmp_path / "deep.png")
    one, other = (accm.answer(source, "What?") for source in (deep, tmp_path / "deep.png"))
    assert torch.equal(one.answer.first_logits, other.answer.first_logits)
    assert one.kept_idx == other.kept_idx
    with pytest.raises(UserError, match="32 bits a channel"):
        accm.answer(Image.new("F", (9, 9)), "What?")


def test_files_bytes_and_images_are_taken(accm, image, scene, tmp_path):
    path = tmp_path / "scene.png"
    image.save(path)
    question = colour_question(scene.things[0])
    texts = {
        accm.answer(source, question).text for source in (image, path, str(path), path.read_bytes())
    }
    assert len(texts) == 1


def test_a_figure_is_drawn_and_written(accm, image, scene, tmp_path):
    result = accm.answer(image, colour_question(scene.things[0]))
    picture = result.figure(tmp_path / "trace.png")
    with Image.open(tmp_path / "trace.png") as written:
        assert written.size == picture.size
    with pytest.raises(UserError, match="does not exist"):
        result.figure(tmp_path / "nowhere" / "trace.png")


def test_a_figure_is_what_its_ending_says(accm, image, scene, tmp_path):
    result = accm.answer(image, colour_question(scene.things[0]))
    expected = np.asarray(result.figure(), dtype=int)
    for ending, kind in FORMATS.items():
        result.figure(tmp_path / f"trace{ending}")
        with Image.open(tmp_path / f"trace{ending}") as written:
            assert written.format == kind
            away = np.abs(np.asarray(written.convert("RGB")) - expected)
            assert away.mean() < 8, ending
    for name in ("trace", "trace.docx", "trace.png.bak", ".png"):
        with pytest.raises(UserError, match="does not end as a picture does: give it one of") as e:
            result.figure(tmp_path / name)
        assert "\n" not in str(e.value) and not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "source, question, says",
    [
        (None, "What?", "of type NoneType: give a PIL image"),
        (np.zeros((40, 40), np.uint8), "What?", r"an array of shape \(40, 40\) and dtype uint8"),
        (np.zeros((40, 40, 4), np.uint8), "What?", r"shape \(40, 40, 4\)"),
        (np.zeros((3, 40, 40), np.uint8), "What?", r"shape \(3, 40, 40\)"),
        (np.zeros((2, 40, 40, 3), np.uint8), "What?", r"shape \(2, 40, 40, 3\)"),
        (np.zeros((0, 40, 3), np.uint8), "What?", r"shape \(0, 40, 3\)"),
        (np.zeros((40, 40, 3), np.float32), "What?", "dtype float32: give"),
        (np.zeros((40, 40, 3), object), "What?", "dtype object: give"),
        (torch.zeros(40, 40, 3), "What?", "of type Tensor: give a PIL image"),
        (Image.new("RGB", (9, 9)), np.zeros((40, 40)), "the question is array.*not a text"),
        ("nowhere.png", "What?", "no image nowhere.png"),
        (b"no image", "What?", "cannot be read as an image"),
        (Image.new("RGB", (9, 9)), " ", "is empty"),
        ([Image.new("RGB", (9, 9))] * 2, ["one?", "two?", "three?"], "2 images and 3 questions"),
    ],
)
def test_what_cannot_be_asked(accm, source, question, says):
    with pytest.raises(UserError, match=says) as error:
        accm.answer(source, question)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_arrays_are_images(accm, image, scene):
    question = colour_question(scene.things[0])
    expected = accm.answer(image, question)
    array = np.array(image)
    stored_by_columns = np.asfortranarray(array)
    backwards = array[:, ::-1].copy()[:, ::-1]
    for result in accm.answer([array, stored_by_columns, backwards], question, batch_size=1):
        assert torch.equal(result.answer.first_logits, expected.answer.first_logits)


def test_objects_say_what_matters(accm, image, scene):
    result = accm.answer(image, colour_question(scene.things[0]))
    assert re.fullmatch(
        rf"Result\('{result.text}', 9 of 144 visual tokens, caption '.+', \d+\.\d\d s\)",
        repr(result),
    )
    whole = accm.answer(image, colour_question(scene.things[0]), visual_token_num=144)
    assert "144 of 144 visual tokens, no caption," in repr(whole)
    assert repr(accm) == (
        "Accm(accm-mini knows drawn scenes of coloured shapes; another picture gets nonsense; "
        "9 of 144 visual tokens; captions; float32 on cpu)"
    )
    assert "36 of 144" in repr(Accm(accm.model)) and "9999 of 144" in repr(Accm(accm.model, 9999))
    assert "no captions" in repr(Accm(accm.model.without_captions()))


def test_pictures_unlike_what_the_model_knows_are_warned_of(accm, image, monkeypatch):
    noise = Image.effect_noise((60, 40), 90).convert("RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accm.answer([image, np.array(image)], "What?", max_new_tokens=1)
        with pytest.raises(UserWarning, match="not look like a drawn scene; accm-mini knows noth"):
            accm.answer([image, noise], "What?", max_new_tokens=1)
        monkeypatch.setattr(accm.model, "about", About("another"))
        accm.answer(noise, "What?", max_new_tokens=1)


def test_a_model_that_is_not_there():
    with pytest.raises(UserError):
        Accm.from_pretrained(ROOT / "checkpoints" / "nowhere")


def test_the_package_names_nothing_else():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        llava.Nothing

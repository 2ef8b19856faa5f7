"""The three lines of the README, and what else they take."""

import re
from pathlib import Path

import pytest
from PIL import Image

import llava
from llava import Accm
from llava.errors import UserError
from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator

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


def colour_question(thing):
    return f"What color is the {thing.shape}?\nAnswer the question using a single word or phrase."


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


def test_all_tokens_need_no_caption(accm, image, scene):
    result = accm.answer(image, colour_question(scene.things[0]), visual_token_num=144)
    assert result.caption is None and len(result.kept_idx) == 144
    assert result.text == scene.things[0].color


def test_lists_give_batches_and_the_same_answers(accm, image, scene):
    questions = [colour_question(thing) for thing in scene.things]
    together = accm.answer(image, questions)
    assert [r.text for r in together] == [accm.answer(image, q).text for q in questions]
    assert [r.text for r in accm.answer([image] * len(questions), questions)] == [
        r.text for r in together
    ]
    assert [r.text for r in accm.answer([image], questions[0])] == [together[0].text]
    assert accm.answer([], "What?") == []


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


@pytest.mark.parametrize(
    "source, question, says",
    [
        (None, "What?", "give a PIL image"),
        ("nowhere.png", "What?", "no image nowhere.png"),
        (b"no image", "What?", "cannot be read as an image"),
        (Image.new("RGB", (9, 9)), " ", "is empty"),
        ([Image.new("RGB", (9, 9))] * 2, ["one?", "two?", "three?"], "2 images and 3 questions"),
    ],
)
def test_what_cannot_be_asked(accm, source, question, says):
    with pytest.raises(UserError, match=says):
        accm.answer(source, question)


def test_a_model_that_is_not_there():
    with pytest.raises(UserError):
        Accm.from_pretrained(ROOT / "checkpoints" / "nowhere")


def test_the_package_names_nothing_else():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        llava.Nothing

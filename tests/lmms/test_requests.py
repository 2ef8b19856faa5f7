"""From a request of lmms-eval to a sample and back, without lmms-eval."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from llava.errors import UserError
from llava.lmms.arguments import read_arguments
from llava.lmms.requests import make_sample, not_greedy, question_of, read_ending, read_image

GREY = Image.new("RGB", (40, 30), (90, 90, 90))


@pytest.mark.parametrize(
    "generation, text, rest",
    [
        ({}, " red \n\nand blue ", "red \n\nand blue"),
        ({"until": ["\n\n"]}, "red\n\nand blue", "red\n\nand blue"),  # lmms-eval's own default
        ({"until": []}, "red", "red"),
        ({"until": None}, "red", "red"),
        ({"until": ""}, "red", "red"),
        ({"until": "."}, "red. blue.", "red"),
        ({"until": ["blue", ","]}, "red, blue, green", "red"),
        ({"until": [",", "blue"]}, "red blue, green", "red"),
        ({"until": ["r"]}, "red", ""),
    ],
)
def test_an_answer_ends_where_the_task_says(generation, text, rest):
    assert read_ending(generation, 7).cut(text) == rest


def test_the_limit_is_the_tasks_or_ours():
    assert read_ending({}, 7).max_new_tokens == 7
    assert read_ending({"max_new_tokens": None}, 7).max_new_tokens == 7
    assert read_ending({"max_new_tokens": 3}, 7).max_new_tokens == 3


@pytest.mark.parametrize(
    "generation",
    [{"until": 3}, {"until": ["a", 3]}, {"max_new_tokens": 0}, {"max_new_tokens": "some"}],
)
def test_a_generation_that_is_none(generation):
    with pytest.raises(UserError, match="in a task's generation_kwargs"):
        read_ending(generation, 7)


def test_what_is_not_greedy_is_named():
    greedy = {"temperature": 0.0, "do_sample": False, "num_beams": 1, "top_p": 1.0, "until": "."}
    assert not_greedy(greedy) == [] and not_greedy({"temperature": None}) == []
    assert not_greedy({"temperature": 0.2, "do_sample": True}) == [
        "temperature=0.2",
        "do_sample=True",
    ]
    assert not_greedy({"num_beams": 5}) == ["num_beams=5"]


def test_marks_for_the_image_are_taken_out():
    assert question_of("<image>\nWhat is it?\nOne word.") == "What is it?\nOne word."
    assert question_of("<image> <image>\n\n What is it?") == "What is it?"
    assert question_of("What is <image 1>? ") == "What is <image 1>? "


def test_one_image_is_read():
    assert read_image(lambda: [GREY.convert("L")]).mode == "RGB"
    assert read_image(lambda: GREY).size == (40, 30)
    assert read_image(lambda: None) is None
    assert read_image(lambda: []) is None
    assert read_image(lambda: [None]) is None


def test_images_are_read_as_files_are_and_as_llava_reads_them():
    deep = Image.fromarray(np.full((4, 6), 0x7F80, dtype=np.uint16))
    assert read_image(lambda: deep).getpixel((0, 0)) == (127, 127, 127)
    sideways = GREY.copy()
    sideways.getexif()[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    sideways.save(file, "JPEG", exif=sideways.getexif())
    assert read_image(lambda: Image.open(file)).size == (40, 30)


def cut_short():
    file = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:900]))


@pytest.mark.parametrize(
    "read, says",
    [
        (lambda: [GREY, GREY], "there are 2 images"),
        (lambda: ["film.mp4"], "there is a str, not an image"),
        (lambda: {"array": [0.1]}, "there is a dict, not an image"),
        (lambda: Image.open("nowhere.png"), "the image cannot be read"),
        (lambda: Image.open(io.BytesIO(b"no image")), "the image cannot be read"),
        (cut_short, "the image is damaged or cut short"),
        (lambda: Image.new("F", (9, 9)), "32 bits a channel"),
        (lambda: Image.new("L", (0, 9)), "has no pixels"),
        (lambda: Image.new("1", (20_000, 1)), "20000 x 1 pixels"),
    ],
)
def test_what_is_not_one_image(read, says):
    with pytest.raises(UserError, match=says):
        read_image(read)


def test_a_mistake_in_the_task_is_none_of_the_image():
    with pytest.raises(KeyError):
        read_image(lambda: {}["image"])


def sample(model, context, image=GREY, limit=16, **given):
    args = read_arguments({"pretrained": "tiny", "visual_token_num": 5} | given)
    return make_sample(model, args, context, image, limit)


def test_a_sample_is_asked_as_a_question_anywhere_else(model):
    made = sample(model, "<image>\nWhat color is it?\nOne word.", text_token_num=2, seed=7)
    assert made.question == "What color is it?\nOne word."
    assert made.question_of_the_method == "What color is it?"
    assert (made.visual_token_num, made.text_token_num, made.seed) == (5, 2, 7)
    assert made.max_new_tokens == 16 and made.image is GREY and not made.no_image


def test_without_an_image_the_prompt_is_read_alone(model):
    assert sample(model, "What color is it?", image=None).no_image
    assert sample(model, "What color is it?", no_image="true").no_image
    (answer,) = model.answer([sample(model, "What color is it?", image=None, limit=2)])
    assert answer.kept_idx == []
    split = {"view_split": "base-first"}  # the flag is for the requests with an image
    assert sample(model, "What color is it?", image=None, **split).view_split is None
    with pytest.raises(UserError, match="view_split base-first has no effect on a model"):
        sample(model, "What color is it?", **split)


def test_an_answer_gets_what_room_there_is(model):
    made = sample(model, "What color is it?", limit=49_152)
    assert 16 < made.max_new_tokens < model.language_model.context_length
    with pytest.raises(UserError):  # not one more
        model.check(type(made)(**{**vars(made), "max_new_tokens": made.max_new_tokens + 1}))


def test_an_answer_leaves_room_for_the_caption(model):
    made = sample(model, "What color is it?", limit=49_152)
    (answer,) = model.answer([dataclasses.replace(made, max_new_tokens=1)])
    assert answer.compensation is not None
    assert answer.input_length + made.max_new_tokens <= model.language_model.context_length


@pytest.mark.parametrize(
    "context, given, says",
    [
        ("<image>\n ", {}, "the question is empty"),
        ("What?\n" + "why " * 5000, {}, "the prompt takes"),
        ("why " * 5000, {}, "the question has"),
        ("What?", {"visual_token_num": 100_000}, "visual_token_num is 100000"),
    ],
)
def test_what_cannot_be_answered(model, context, given, says):
    with pytest.raises(UserError, match=says):
        sample(model, context, **given)

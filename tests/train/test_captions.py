"""Caption files and instruction files: what is read of them, and which are refused."""

import json

import pytest

from llava.errors import UserError
from llava.train.captions import (
    DEFAULT_QUESTION,
    read_caption_pairs,
    read_conversations,
    read_questions,
    tower_questions,
)
from llava.train.pruning import check_budgets


@pytest.fixture
def coco(tmp_path):
    """A captions file of two images with captions and one without, and the images."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"picture")
    names = ["b.jpg", "a.jpg", "unused.jpg"]
    said = [(0, "A cat."), (1, " Two\n dogs. "), (0, "Cats!")]
    return {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": i, "caption": t} for n, (i, t) in enumerate(said)],
    }


def read(folder, content):
    (folder / "captions.json").write_text(json.dumps(content))
    return read_caption_pairs(folder / "captions.json", folder)


def test_images_have_their_own_captions(tmp_path, coco):
    pairs = read(tmp_path, coco)
    assert pairs.images == [tmp_path / "b.jpg", tmp_path / "a.jpg"]
    assert pairs.captions == [["A cat.", "Cats!"], ["Two dogs."]]


@pytest.mark.parametrize(
    "place, field, value, says",
    [
        ("annotations", "caption", " \n", "captions.json, annotation 1: its caption is empty: wri"),
        ("annotations", "caption", None, "captions.json, annotation 1: its caption is empty: wri"),
        ("annotations", "image_id", 9, "annotation 1: its image_id is not among the images"),
        ("images", "file_name", "c.jpg", "c.jpg, which is not there: check the folder"),
    ],
)
def test_entries_that_do_not_fit_are_named(tmp_path, coco, place, field, value, says):
    coco[place][0][field] = value
    with pytest.raises(UserError, match=says):
        read(tmp_path, coco)


def test_an_empty_image_is_named(tmp_path, coco):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="a.jpg that .*captions.json names is empty: fetch it"):
        read(tmp_path, coco)


@pytest.mark.parametrize(
    "content, says",
    [
        ({"images": []}, "no lists images and annotations: get it from"),
        ({"images": [{"id": 1}], "annotations": []}, "image 1 has no id or no file_name"),
        ({"images": [], "annotations": []}, "holds no captions: get it from"),
    ],
)
def test_other_files_are_refused(tmp_path, content, says):
    with pytest.raises(UserError, match=says):
        read(tmp_path, content)


def test_questions_come_without_formats_and_only_from_images(tmp_path):
    path = tmp_path / "data.json"
    turn = [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "b"}]
    long = [{"from": "human", "value": "Write a novel."}, {"from": "gpt", "value": "Once"}]
    path.write_text(json.dumps([{"conversations": long}, {"image": "a", "conversations": turn}]))
    assert read_questions(path) == ["A?"]
    path.write_text(json.dumps([{"conversations": long}]))
    with pytest.raises(UserError, match="data.json has no question about an image"):
        read_questions(path)
    assert read_questions(None) == [DEFAULT_QUESTION]


def test_the_towers_read_a_first_line_or_a_whole_question():
    options = "Where?\nA. left\nB. right"
    suffix = "\nAnswer with the option's letter from the given choices directly."
    assert tower_questions(options + suffix) == ["Where?", options]
    assert tower_questions("Is it?") == ["Is it?", "Is it?"]


def test_conversations_are_pairs_without_placeholders(tmp_path):
    path = tmp_path / "data.json"
    turns = [
        {"from": "human", "value": "<image>\nIs it?\nSay yes or no."},
        {"from": "gpt", "value": " no "},
        {"from": "human", "value": "Why?\n<image>"},
        {"from": "gpt", "value": "Because."},
    ]
    path.write_text(json.dumps([{"id": 7, "image": "a.jpg", "conversations": turns}]))
    (entry,) = read_conversations(path)
    assert (entry.id, entry.image) == ("7", "a.jpg")
    assert entry.pairs == [("Is it?\nSay yes or no.", "no"), ("Why?", "Because.")]


HUMAN, GPT = {"from": "human", "value": "A?"}, {"from": "gpt", "value": "b"}


@pytest.mark.parametrize(
    "content, says",
    [
        ("no json", "is not JSON"),
        ([], "is not a list of conversations"),
        ([{"conversations": [HUMAN, GPT]}, {"id": 7}], "entry 2 has no conversations: take it out"),
        ([{"id": 7, "conversations": [HUMAN]}], r"entry 1 \(7\): the last question has no answer"),
        ([{"conversations": [GPT, HUMAN]}], "turn 1 is not a text from human"),
        ([{"conversations": [HUMAN, HUMAN | {"value": 5}]}], "turn 2 is not a text from gpt"),
        ([{"conversations": [HUMAN | {"value": "<image>"}, GPT]}], "turn 1 is empty: fill it, or"),
        ([{"conversations": [HUMAN, GPT | {"value": " "}]}], "turn 2 is empty: fill it, or take"),
    ],
)
def test_conversations_that_cannot_be_learnt_from_are_named(tmp_path, content, says):
    path = tmp_path / "data.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=f"data.json.*{says}"):
        read_conversations(path)


@pytest.mark.parametrize(
    "budgets, says",
    [([5, 144], "--budgets has 144: of 144 tokens 1 to 143"), ([0], "has 0"), ([], "is empty")],
)
def test_budgets_are_numbers_of_tokens_that_leave_some(budgets, says):
    with pytest.raises(UserError, match=says):
        check_budgets(budgets, 144)
    assert check_budgets([1, 143, "1/9", "11%"], 144) == [1, 143, 16, 16]
    with pytest.raises(UserError, match="--budget has all: of 144 tokens 1 to 143"):
        check_budgets(["all"], 144, "--budget")

"""What a model card says to the program."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from llava.model.about import About, read_about

ROOT = Path(__file__).parents[2]
MINI = ROOT / "checkpoints" / "accm-mini"


def card(folder, head):
    (folder / "README.md").write_bytes(b"---\n" + head + b"\n---\n\n# A model\n")
    return read_about(folder, "a model")


def test_the_card_of_the_mini_model():
    about = read_about(MINI, "accm-mini")
    assert about.pictures == "drawn scenes"
    assert about.line == (
        "accm-mini knows drawn scenes of coloured shapes; another picture gets nonsense"
    )


def test_its_head_is_what_the_hub_reads():
    data = ModelCard.load(MINI / "README.md").data
    assert data.license == "apache-2.0" and data.language == "en"
    assert data.pipeline_tag == "image-text-to-text" and "llava" in data.tags


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"license: mit",
        b"- a\n- list",
        b"other:\n  accm_knows: x",
        b"accm_knows:",
        b"accm_knows: ''",
        b"accm_knows: \x1b[2J",
        b"accm_knows: " + b"x" * 301,
        b"accm_knows: \xff\xfe",
        b"---\naccm_knows: x",
    ],
)
def test_a_card_without_a_line_says_nothing(tmp_path, head):
    assert card(tmp_path, head) == About("a model")
    assert card(tmp_path, head).line is None


@pytest.mark.parametrize("written", [b"cats: all", b"'cats: all'", b'"cats: all"', b" cats: all "])
def test_a_text_is_read_as_it_is_meant(tmp_path, written):
    assert card(tmp_path, b"license: mit\naccm_knows: " + written).line == "a model knows cats: all"


def test_no_card_and_a_folder_in_its_place(tmp_path):
    assert read_about(tmp_path, "x") == About("x")
    (tmp_path / "README.md").mkdir()
    assert read_about(tmp_path, "x") == About("x")


def test_any_bytes_are_a_card_or_none(tmp_path, fuzz):
    def read(content):
        (tmp_path / "README.md").write_bytes(content)
        about = read_about(tmp_path, "x")
        assert about.line is None or about.line.isprintable()

    fuzz(read, [(MINI / "README.md").read_bytes()[:600]])


def test_the_model_knows_its_card(load_tiny, model):
    assert model.about == About("llava-v1.5-tiny")
    assert model.without_captions().about is model.about

"""LongCLIP's tokens: as open_clip's tokenizer gives them, word by word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava.model.compensation.long_clip import LongClipText, build_text_tower

CONTEXT = 40
WORDS = st.sampled_from(
    [
        "a",
        "Red",
        "don't",
        "it's",
        "12.5%",
        "(left)",
        "x--y",
        "<end_of_text>",
        "&amp;",
        "naïve",
        "Σ",
        "…",
    ]
)


@pytest.fixture(scope="module")
def long_clip():
    tower = build_text_tower(
        width=64, layers=1, embed_dim=8, context_length=CONTEXT, vocab_size=49408
    )
    return LongClipText(tower, CONTEXT)


def same_tokens(long_clip, text):
    (expected,) = long_clip._tokenizer([text]).tolist()
    end = expected.index(max(expected)) + 1
    assert long_clip.tokenize([text])[0].tolist() == expected[:end], text


@given(st.lists(WORDS, max_size=60).map(" ".join))
def test_words_are_those_of_the_whole_text(long_clip, text):
    same_tokens(long_clip, text)


@given(st.text(max_size=80))
def test_any_text_is_tokenized_as_by_open_clip(long_clip, text):
    same_tokens(long_clip, text)


def test_a_row_is_as_long_as_its_longest_text(long_clip):
    ids = long_clip.tokenize(["a", "a red circle", " word" * 100])
    assert ids.shape == (3, CONTEXT)
    assert ids[0, 3:].eq(0).all()
    assert ids[2, -1] == ids.max()  # what is cut still ends in the end-of-text

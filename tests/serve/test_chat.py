"""A conversation about one image, whatever shows it."""

from pathlib import Path

import pytest
from PIL import Image

from llava.constants import IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.model.sample import Sample
from llava.serve.chat import Chat, TextPieces, why

ROOT = Path(__file__).parents[2]
STAR = "What color is the star?"


def talk(model, **settings):
    with Image.open(ROOT / "images" / "scene.png") as image:
        return Chat(model, Sample(image.convert("RGB"), "", **settings))


def test_the_llm_reads_the_turns_before(mini):
    chat = talk(mini, visual_token_num=144)
    first, second = chat.ask(STAR), chat.ask("Is there a star in the image?")
    tokenizer = mini.language_model.tokenizer
    assert [answer for _, answer in chat.turns] == [first.text, second.text]
    assert tokenizer.eos_token_id in second.input_ids
    assert len(second.input_ids) > len(first.input_ids)
    chat.clear()
    assert chat.ask(STAR).out_ids == first.out_ids


def test_a_caption_stands_before_the_question_that_it_was_written_for(mini):
    chat = talk(mini, visual_token_num=9)
    chat.ask(STAR)
    answer = chat.ask("Is there a star in the image?")
    decode, ids = mini.language_model.tokenizer.decode, answer.input_ids
    text = decode(ids[ids.index(IMAGE_TOKEN_INDEX) + 1 :])
    caption = answer.compensation.chosen_caption
    first = f"\n{STAR} ASSISTANT: {chat.turns[0][1]}"
    assert text.startswith(first) and text.count("additional information:") == 1
    assert text.endswith(
        f"additional information: {caption} \nIs there a star in the image? ASSISTANT:"
    )


def test_pieces_make_up_the_answer(mini):
    pieces, chat = [], talk(mini)
    answer = chat.ask(STAR, pieces.append)
    assert "".join(pieces).strip() == answer.text


def test_a_failed_question_leaves_the_conversation(mini):
    chat = talk(mini)
    chat.ask(STAR)
    with pytest.raises(UserError):
        chat.ask(" ")
    assert len(chat.turns) == 1 and chat.last is not None


def test_half_a_character_waits():
    texts = {1: "a", 2: "a\N{REPLACEMENT CHARACTER}", 3: "a\N{SNOWMAN}"}
    told = []
    pieces = TextPieces(lambda ids: texts[len(ids)], told.append)
    for token in (5, 6, 7):
        pieces.add(0, token)
    assert told == ["a", "\N{SNOWMAN}"]


def test_why_names_reasons_and_times(mini):
    text = why(talk(mini, visual_token_num=9).ask(STAR), 144)
    assert text.startswith("9 of 144 visual tokens kept: ")
    assert text.count("\n") == 6 and "* 0." in text and "together" in text

"""The chat in the terminal: what is typed, what comes back, what cannot be done."""

import io
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from llava.constants import IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.model.builder import ModelArguments, load_from_arguments
from llava.serve import cli
from llava.serve.chat import Chat, TextPieces, why

ROOT = Path(__file__).parents[2]
STAR = "What color is the star?"


@pytest.fixture
def typed(monkeypatch, capsys):
    """Runs the command on lines of input; gives its exit status, output and errors."""
    monkeypatch.chdir(ROOT)

    def run(*lines, flags=()):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        status = cli.main(["--device", "cpu", *flags])
        return status, *capsys.readouterr()

    return run


def test_it_works_out_of_the_box(typed):
    status, out, err = typed(STAR, "/why", "/quit", "never read")
    assert status == 0 and err == ""
    assert (
        "\naccm-mini knows drawn scenes of coloured shapes; another picture gets nonsense.\n" in out
    )
    assert "ASSISTANT: black\n" in out
    assert "36 of 144 visual tokens kept" in out and "a small black star" in out
    assert "encode" in out and "decode" in out


def test_tokens_and_images_change_as_asked(typed, tmp_path):
    Image.new("RGB", (50, 50), (9, 9, 9)).save(tmp_path / "dark.png")
    lines = ["/tokens 144", STAR, "/why", f"/image {tmp_path / 'dark.png'}", "/why"]
    status, out, err = typed(*lines)
    assert status == 0
    assert "144 of 144 visual tokens kept\nms:" in out  # no candidates: nothing was pruned
    assert "nothing was asked yet" in err  # another image is another conversation


def test_a_picture_unlike_what_the_model_knows_is_warned_of(typed, tmp_path):
    noise = str(tmp_path / "noise.png")
    Image.effect_noise((60, 40), 90).convert("RGB").save(noise)
    says = "warning: this picture does not look like a drawn scene; accm-mini knows nothing else"
    for lines, flags, count in (
        ([f"/image {noise}", f"/image {noise}"], [], 2),
        (["/image images/scene.png"], ["--image-file", noise], 1),
    ):
        status, _, err = typed(*lines, flags=flags)
        assert status == 0 and err.count(says) == err.count("\n") == count


@pytest.mark.parametrize(
    "line, says",
    [
        ("/image nowhere.png", "no image nowhere.png"),
        ("/image", "say which"),
        ("/image .", "no file to read"),
        ("/tokens", "whole number from 1 to 144"),
        ("/tokens many", "not 'many'"),
        ("/tokens 0", "visual_token_num is 0"),
        ("/tokens 145", "visual_token_num is 145"),
        ("/why", "nothing was asked yet"),
        ("/fly", "no command /fly"),
        ("look at <image>", "about one image"),
        ("why " * 3000, "error: "),
    ],
)
def test_a_bad_line_is_answered_and_the_chat_goes_on(typed, line, says):
    status, out, err = typed(line, STAR)
    assert status == 0
    assert says in err and "Traceback" not in err
    assert "ASSISTANT: black\n" in out


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--model-path", "nowhere"], "nowhere"),
        (["--image-file", "nowhere.png"], "no image nowhere.png"),
        (["--visual-token-num", "999"], "visual_token_num is 999"),
    ],
)
def test_bad_flags(typed, flags, says):
    status, _, err = typed(flags=flags)
    assert status == 2 and says in err


@pytest.fixture(scope="module")
def model():
    return load_from_arguments(ModelArguments(str(ROOT / "checkpoints/accm-mini"), device="cpu"))


def talk(model, **settings):
    with Image.open(ROOT / "images" / "scene.png") as image:
        return Chat(model, image.convert("RGB"), **settings)


def test_the_llm_reads_the_turns_before(model):
    chat = talk(model, visual_token_num=144)
    first, second = chat.ask(STAR), chat.ask("Is there a star in the image?")
    tokenizer = model.language_model.tokenizer
    assert [answer for _, answer in chat.turns] == [first.text, second.text]
    assert tokenizer.eos_token_id in second.input_ids
    assert len(second.input_ids) > len(first.input_ids)
    chat.clear()
    assert chat.ask(STAR).out_ids == first.out_ids


def test_a_caption_stands_before_the_question_that_it_was_written_for(model):
    chat = talk(model, visual_token_num=9)
    chat.ask(STAR)
    answer = chat.ask("Is there a star in the image?")
    decode, ids = model.language_model.tokenizer.decode, answer.input_ids
    text = decode(ids[ids.index(IMAGE_TOKEN_INDEX) + 1 :])
    caption = answer.compensation.chosen_caption
    first = f"\n{STAR} ASSISTANT: {chat.turns[0][1]}"
    assert text.startswith(first) and text.count("additional information:") == 1
    assert text.endswith(
        f"additional information: {caption} \nIs there a star in the image? ASSISTANT:"
    )


def test_a_photograph_is_seen_upright(typed, tmp_path):
    """The whole scene, stored as a phone held sideways does it; /image and --image-file."""
    with Image.open(ROOT / "images" / "scene.png") as image:
        note = Image.Exif()
        note[ExifTags.Base.Orientation] = 8
        image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "phone.png", exif=note)
    where = "Where is the star?"
    _, expected, _ = typed(where, "/quit")
    answer = expected[expected.index("ASSISTANT: ") :].splitlines()[0]
    status, out, _ = typed(
        where,
        f"/image {tmp_path / 'phone.png'}",
        where,
        flags=["--image-file", str(tmp_path / "phone.png")],
    )
    assert status == 0 and out.count(answer) == 2


def test_pieces_make_up_the_answer(model):
    pieces, chat = [], talk(model)
    answer = chat.ask(STAR, pieces.append)
    assert "".join(pieces).strip() == answer.text


def test_a_failed_question_leaves_the_conversation(model):
    chat = talk(model)
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


def test_why_names_reasons_and_times(model):
    text = why(talk(model, visual_token_num=9).ask(STAR), 144)
    assert text.startswith("9 of 144 visual tokens kept: ")
    assert text.count("\n") == 5 and "* 0." in text and "together" in text

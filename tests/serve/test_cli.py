"""The chat in the terminal: what is typed, what comes back, what cannot be done."""

import io
import sys
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from llava.model import builder
from llava.serve import cli

ROOT = Path(__file__).parents[2]
STAR = "What color is the star?"


@pytest.fixture
def typed(monkeypatch, capsys, mini):
    """Runs the command on lines of input; gives its exit status, output and errors.

    The model of its default flags is lent to it; another one is loaded.
    """
    monkeypatch.chdir(ROOT)
    load = builder.load_from_arguments
    usual = cli.CliArguments().model_path

    def lend(args):
        return mini if args.model_path == usual else load(args)

    def run(*lines, flags=(), loads=False):
        monkeypatch.setattr(builder, "load_from_arguments", load if loads else lend)
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        status = cli.main(["--device", "cpu", *flags])
        return status, *capsys.readouterr()

    return run


def test_it_works_out_of_the_box(typed):
    status, out, err = typed(STAR, "/why", "/quit", "never read", loads=True)
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


def test_tokens_may_be_a_share_and_says_how_many_there_are(typed):
    status, out, err = typed("/tokens", "/tokens 1/16", "/tokens", STAR, "/why")
    assert status == 0 and err == ""
    said = [
        "36 of 144 visual tokens",
        "9 of 144 visual tokens from now on",
        "9 of 144 visual tokens",
    ]
    assert out.splitlines()[2:5] == said
    assert "\n9 of 144 visual tokens kept" in out


def test_another_pruner_is_chosen_as_asked(typed):
    lines = ["/pruner", "/pruner prumerge+", "/pruner scope alpha=2", STAR, "/why", "/pruner best"]
    status, out, err = typed("/tokens 9", *lines, flags=["--pruner", "uniform"])
    assert status == 0 and "error: there is no pruner 'best'" in err
    assert out.splitlines()[3:6] == [
        "pruner uniform",
        "pruner prumergeplus from now on",
        "pruner scope alpha=2.0 from now on",
    ]
    assert "\n9 of 144 visual tokens kept: coverage 9" in out


def test_a_model_of_single_questions_is_asked_each_by_itself(typed):
    lines = ("/tokens 9", STAR, "Where is the star?", STAR)
    status, out, _ = typed(*lines)
    assert status == 0 and "each question by itself" in out
    assert out.endswith("ASSISTANT: black\nASSISTANT: northeast\nASSISTANT: black\n")


def test_an_answer_without_words_is_explained(typed):
    status, out, err = typed("Welche Farbe hat der Stern?", STAR)
    assert status == 0
    assert out.endswith("\nASSISTANT: (no words)\nASSISTANT: black\n")
    assert err.count("\n") == 1 and "language" in err and "English" in err


def test_each_question_of_a_pipe_has_its_line(typed):
    """Also one that fails, so that answers can be told apart."""
    status, out, err = typed(STAR, "", "look at <image>", f"  {STAR}  ", "/quit", STAR)
    assert status == 0 and err.count("\n") == 1
    assert out.splitlines()[2:] == [
        "ASSISTANT: black",
        "ASSISTANT: (no answer)",
        "ASSISTANT: black",
    ]


def test_an_image_may_be_in_the_folder_of_the_user(typed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with Image.open(ROOT / "images" / "scene.png") as image:
        image.save(tmp_path / "my scene.png")
    status, out, err = typed("/image ~/my scene.png", STAR)
    assert status == 0 and err == ""
    assert f"about {tmp_path}/my scene.png now\nASSISTANT: black\n" in out


def test_a_pipe_needs_no_line_editing(typed, monkeypatch):
    """Nor the time to import what does it."""
    monkeypatch.delitem(sys.modules, "llava.serve.line_editor", raising=False)
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)  # an import fails
    assert typed("/help")[0] == 0


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
        ("/image", "say which: /image FILE"),
        ("/image .", "no file to read"),
        ("/tokens many", "not 'many'"),
        ("/tokens 3/2", "whole number from 1 to 144, or a share"),
        ("/tokens 0", "not '0'"),
        ("/tokens 145", "not '145'"),
        ("/why", "nothing was asked yet"),
        ("/fly", "no command /fly"),
        ("/tokns 9", "did you mean /tokens?"),
        ("/clear all", "/clear stands alone"),
        ("\udcff?", "not valid Unicode"),
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full here")
def test_a_full_disk_is_one_line(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.stdin", io.StringIO(STAR))
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        status = cli.main(["--device", "cpu"])
    assert status == 2
    assert capsys.readouterr().err == (
        "error: No space left on device: make room, or write elsewhere\n"
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

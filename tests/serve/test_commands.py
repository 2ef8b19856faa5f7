"""What is typed beside questions: commands, budgets, names of pictures."""

import pytest

from llava.errors import UserError
from llava.serve.commands import COMMANDS, HELP, image_name, read_tokens, split_command


@pytest.mark.parametrize(
    "words, kept",
    [
        ("36", 36),
        ("1", 1),
        ("144", 144),
        ("1/4", 36),
        ("0.25", 36),
        (".25", 36),
        ("25%", 36),
        ("25 %", 36),
        ("12.5%", 18),
        ("1/3", 48),
        ("1/64", 2),  # 2.25
        ("3/288", 2),  # 1.5: halves go up
        ("1/1000", 1),  # never none
        ("1.0", 144),
        ("2/2", 144),
        ("100%", 144),
        ("all", 144),
    ],
)
def test_a_budget_is_a_number_or_a_share(words, kept):
    assert read_tokens(words, 144) == kept


@pytest.mark.parametrize(
    "words",
    "0 145 1000 -1 +1 nan inf 1e999 1e2 0/0 1/0 0/5 3/2 1/-4 0.0 0% 101% % . / 1/ 1. 1/2/3 ½ 1,5 "
    "many".split()
    + ["9" * 5000, "0." + "9" * 5000, "1/" + "9" * 5000, "\udcff", "1\0"],
)
def test_what_is_no_budget_gets_one_line(words):
    with pytest.raises(UserError, match="from 1 to 144") as error:
        read_tokens(words, 144)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_commands_and_their_words():
    assert split_command("/image  my picture.png") == ("/image", "my picture.png")
    assert split_command("/image\tx.png") == ("/image", "x.png")
    assert split_command("/why") == ("/why", "")
    assert [line.split()[0] for line in HELP.splitlines()] == list(COMMANDS)


@pytest.mark.parametrize(
    "line, says",
    [
        ("/imgae x.png", r"no command /imgae \(did you mean /image\?\)"),
        ("/TOKENS 9", r"did you mean /tokens\?"),
        ("/", "no command /; "),
        ("/" + "x" * 9999, r"no command '/x+\.\.\.x+'"),
        ("/\x1b[31m", r"no command '/\\x1b\[31m'"),
        ("/clear it all", "/clear stands alone"),
        ("/image a.png\nWhat?", "/image is a line of its own"),
    ],
)
def test_a_command_that_is_none_gets_one_line(line, says):
    with pytest.raises(UserError, match=says) as error:
        split_command(line)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_picture_may_have_blanks_and_quotes_in_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    name = tmp_path / "my picture.png"
    name.touch()
    for words in (str(name), f"'{name}'", str(name).replace(" ", "\\ "), "~/my picture.png"):
        assert image_name(words) == str(name)
    (tmp_path / "'quoted'").touch()
    assert image_name("~/'quoted'") == str(tmp_path / "'quoted'")


@pytest.mark.parametrize(
    "words", ["nowhere.png", "it's.png", "a b c.png", "a\0b", "https://x/y~z.png"]
)
def test_other_names_stay_as_they_are(words):
    assert image_name(words) == words


def test_image_alone_says_how():
    with pytest.raises(UserError, match="/image FILE"):
        image_name("")

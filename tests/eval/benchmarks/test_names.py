import pytest

from llava.eval.benchmarks.names import as_id, as_number, is_name, say_the_same, visible


@pytest.mark.parametrize(
    "value, stands_for",
    [
        (241, 241),
        (-1, -1),
        (241.0, 241),  # as pandas writes it
        ("v0", "v0"),
        ("241.0", "241.0"),
        ("a b.jpg", "a b.jpg"),
        ("Bildschirmfoto 10.00.00\u202fAM.png", "Bildschirmfoto 10.00.00\u202fAM.png"),
        ("一", "一"),
        (0.5, None),
        (1e300, None),
        (float("nan"), None),
        (float("inf"), None),
        (2**63, None),
        (True, None),
        (None, None),
        ([], None),
        ("", None),
        ("  ", None),
        ("nan", None),
        ("None", None),
        ("<NA>", None),
        ("a\ud800", None),
        ("caf\udce9", None),  # a file name that is not UTF-8
        ("a\0b", None),
        ("a\nb", None),
        ("a\u2028b", None),
        ("é" * 127 + "/b", "é" * 127 + "/b"),
        ("é" * 128 + "/b", None),  # of 256 bytes
    ],
)
def test_what_can_be_an_id(value, stands_for):
    assert as_id(value) == stands_for and type(as_id(value)) is type(stands_for)
    assert is_name(value) == (isinstance(value, str) and stands_for is not None)


@pytest.mark.parametrize(
    "cell, number",
    [("241", 241), (" 241.0 ", 241), ("241.", 241), ("1000241.000", 1000241)]
    + [(cell, None) for cell in ("", "nan", "x", "-1", "1.5", "1e3", "1_000", "１", "9" * 30)],
)
def test_the_whole_number_in_a_cell(cell, number):
    assert as_number(cell) == number


@pytest.mark.parametrize(
    "text, other, same",
    [
        ("Is it so?", "is it so ?", True),
        ("Is it  so?", "Is it so", True),
        ("Is it ｓｏ？", "Is it so?", True),
        ("Is it so?", "Is it not so?", False),
        ("Is it 3?", "Is it 4?", False),
        ("?", "?", True),
        ("?", "!", False),  # nothing to tell them by
    ],
)
def test_texts_that_say_the_same(text, other, same):
    assert say_the_same(text, other) == say_the_same(other, text) == same


def test_files_that_are_no_data(tmp_path):
    for name in ("b.txt", "a.txt", "._a.txt", ".a.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in visible(tmp_path.iterdir())] == ["a.txt", "b.txt"]

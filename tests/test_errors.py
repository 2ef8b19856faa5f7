"""What a message shows of values that somebody else wrote."""

from __future__ import annotations

from llava.errors import quoted, shown


def test_values_are_on_one_line_that_can_be_printed():
    assert quoted("caf\udce9") == r"'caf\udce9'"
    assert quoted(7) == "7"
    assert quoted("a\nb") == r"'a\nb'"
    assert shown("model.bin") == "model.bin"
    assert shown("a\nb") == r"'a\nb'"
    assert shown("") == "''"


def test_long_values_lose_their_middle():
    for value in ("x" * 1000, 10**1000, ["x" * 1000] * 3, {"x" * 1000: 1}):
        assert len(quoted(value)) < 600

"""Property-based tests of readers: any bytes give a result or one UserError.

``--fuzz-inputs N`` asks each reader N times; the default is what CI can afford. Inputs are drawn
without a random seed of the day, so that a failure comes again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llava.errors import UserError

LONGEST_MESSAGE = 1000  # characters; a message is one line with a way out

# What stands in the place of a value of a JSON file. json.dumps writes NaN and lone surrogates.
ODD_VALUES = st.sampled_from(
    [None, True, False, 0, -1, 0.5, 2**70, -(10**400), 1e308, float("nan"), float("inf"), ""]
    + ["\udc80", "\0", "a" * 5000, "../../etc/passwd", "/", ".", "..", "\n", "\u202e", "1", "nan"]
    + [[], {}, [[]], [None], {"": None}, {"a": {"a": {"a": []}}}, "[" * 10, ["x"] * 300]
)


def fuzz(read: Callable[[bytes], object], seeds: Sequence[bytes], inputs: int) -> None:
    """Fails where a reader raises anything but a UserError of one line.

    Args:
        read: is given the contents of a file.
        seeds: sound files, from which damaged ones are made; JSON, JSON lines, or any other bytes.
        inputs: how many are tried.
    """

    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(contents(seeds))
    def check(content: bytes) -> None:
        try:
            read(content)
        except UserError as error:
            message = str(error)
            assert message and "\n" not in message and len(message) <= LONGEST_MESSAGE, message
            message.encode("utf-8")  # it can be printed

    check()


def contents(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Draws the contents of a file: any bytes, or a sound file with something wrong in it."""
    sound = st.sampled_from(list(seeds))
    return st.one_of(
        st.binary(max_size=200),
        sound,
        st.builds(_cut, sound, st.floats(0, 1)),
        st.builds(_overwrite, sound, st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.builds(_repeat, sound, st.floats(0, 1), st.floats(0, 1)),
        st.builds(_replace_value, sound, st.randoms(use_true_random=False), ODD_VALUES),
        st.builds(_replace_value, sound, st.randoms(use_true_random=False), ODD_VALUES),
        st.builds(_drop_value, sound, st.randoms(use_true_random=False)),
    )


def _cut(content: bytes, share: float) -> bytes:
    return content[: int(share * len(content))]


def _overwrite(content: bytes, share: float, junk: bytes) -> bytes:
    start = int(share * len(content))
    return content[:start] + junk + content[start + len(junk) :]


def _repeat(content: bytes, first: float, second: float) -> bytes:
    start, end = sorted(int(share * len(content)) for share in (first, second))
    return content[:end] + content[start:]


def _replace_value(content: bytes, random, value: object) -> bytes:
    return _change(content, random, lambda holder, key: holder.__setitem__(key, value))


def _drop_value(content: bytes, random) -> bytes:
    return _change(content, random, lambda holder, key: holder.__delitem__(key))


def _change(content: bytes, random, change: Callable) -> bytes:
    """Changes one value of a JSON file or of a line of a JSON lines file; other files stay."""
    lines = content.splitlines(keepends=True) or [b""]
    place = random.randrange(len(lines))
    for head, part, tail in (
        (b"", content, b""),
        (b"".join(lines[:place]), lines[place], b"".join(lines[place + 1 :])),
    ):
        try:
            value = json.loads(part)
        except (ValueError, RecursionError):
            continue
        holders = list(_places(value))
        if not holders:
            return content
        holder, key = random.choice(holders)
        change(holder, key)
        return head + json.dumps(value).encode() + b"\n" + tail
    return content


def _places(value: object):
    """Yields each (container, key) of a JSON value."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)

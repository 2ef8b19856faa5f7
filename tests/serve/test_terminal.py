"""Where lines come from without line editing: pipes, files, simple terminals."""

import io
import os
import pty
import sys

import pytest

from llava.errors import UserError
from llava.serve.line_editor import Prompt
from llava.serve.terminal import Plain, open_terminal


class Screen(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def streams(monkeypatch):
    def put(**names):
        for name, stream in names.items():
            monkeypatch.setattr(sys, name, stream)

    return put


def test_a_pipe_gives_lines_and_says_nothing(streams, capsys):
    streams(stdin=io.StringIO("one\n\nlast"))
    plain = Plain()
    assert [plain.read() for _ in range(4)] == ["one\n", "\n", "last", None]
    assert capsys.readouterr() == ("", "")


def test_a_person_at_a_simple_terminal_is_asked_where_they_see_it(streams, capsys):
    streams(stdin=Screen("one\n"))
    plain = Plain()
    assert [plain.read(), plain.read()] == ["one\n", None]
    assert capsys.readouterr() == ("", "USER: USER: \n")
    streams(stdin=Screen("one\n"), stdout=Screen())
    Plain().read()
    assert sys.stdout.getvalue() == "USER: "


class Interrupted(Screen):
    """Ctrl-C, and then a line."""

    is_first, is_person = True, True

    def isatty(self):
        return self.is_person

    def readline(self):
        if self.is_first:
            self.is_first = False
            raise KeyboardInterrupt
        return "one\n"


def test_ctrl_c_drops_what_is_typed_and_ends_what_reads_a_pipe(streams):
    stdin = Interrupted()
    streams(stdin=stdin)
    assert Plain().read() == "one\n"
    stdin.is_first, stdin.is_person = True, False
    with pytest.raises(KeyboardInterrupt):
        Plain().read()


def test_odd_bytes_are_the_mistake_of_their_line(streams):
    data = io.BytesIO(b"caf\xc3\xa9\n\xff?\nafter\n")
    streams(stdin=io.TextIOWrapper(data, encoding="utf-8"))
    plain = Plain()
    assert [plain.read() for _ in range(3)] == ["café\n", "\udcff?\n", "after\n"]


class Broken(io.StringIO):
    def readline(self):
        raise OSError(5, "Input/output error")


def test_no_input_is_the_end_and_a_broken_one_is_one_line(streams):
    streams(stdin=None)
    assert Plain().read() is None
    streams(stdin=Broken())
    with pytest.raises(UserError, match="Input/output error"):
        Plain().read()


@pytest.mark.parametrize(
    "term, stdin, stdout, kind",
    [
        ("xterm", "tty", "tty", Prompt),
        ("dumb", "tty", "tty", Plain),
        (None, "tty", "tty", Plain),
        ("xterm", "pipe", "tty", Plain),
        ("xterm", "tty", "pipe", Plain),
        ("xterm", "closed", "tty", Plain),
        ("xterm", "tty", "closed", Plain),
    ],
)
def test_line_editing_is_for_terminals(streams, monkeypatch, term, stdin, stdout, kind):
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    ours, theirs = pty.openpty()
    with open(theirs) as keys, open(os.dup(theirs), "w") as screen, monkeypatch.context() as patch:
        known = {"tty": (keys, screen), "pipe": (io.StringIO(),) * 2, "closed": (None, None)}
        patch.setattr(sys, "stdin", known[stdin][0])
        patch.setattr(sys, "stdout", known[stdout][1])
        assert isinstance(open_terminal(history=False), kind)
    os.close(ours)

"""The prompt of a chat: keys in, lines out; and once a whole chat in a pseudo-terminal."""

import io
import os
import pty
import re
import select
import signal
import sys
import threading
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output

from llava.serve import cli
from llava.serve.line_editor import CommandCompleter, KeptHistory, Prompt

ROOT = Path(__file__).parents[2]
STAR = "What color is the star?"
LEFT, UP, CTRL_C, CTRL_D, ALT_ENTER = "\x1b[D", "\x1b[A", "\x03", "\x04", "\x1b\r"


@pytest.fixture
def lines_of():
    """Gives the lines that a prompt makes of keys; each item is typed when it asks for a line."""

    def press(*typed, history=None):
        with create_pipe_input() as pipe:
            prompt = Prompt(history or InMemoryHistory(), pipe, DummyOutput())
            lines = []
            for keys in typed:
                pipe.send_text(keys)
                lines.append(prompt.read())
            return lines

    return press


@pytest.mark.parametrize(
    "typed, lines",
    [
        ([f"What clor?{LEFT * 4}o\r"], ["What color?"]),
        ([f"dropped{CTRL_C}kept\r"], ["kept"]),
        ([f"{CTRL_C}{CTRL_C}{CTRL_D}"], [None]),
        ([f"not the end{LEFT}{CTRL_D}\r", CTRL_D], ["not the en", None]),
        (["first\r", "second\r", f"{UP}{UP}\r"], ["first", "second", "first"]),
        (["Where?\r", "What?\r", "Who?\r", f"Wha{UP}\r"], ["Where?", "What?", "Who?", "What?"]),
        ([f"one{ALT_ENTER}question\r"], ["one\nquestion"]),
        (["\x1b[200~one\r\nquestion\x1b[201~\r"], ["one\nquestion"]),
        (["/wh\t\r"], ["/why"]),
        (["/im\tx.png\r"], ["/image x.png"]),
    ],
)
def test_keys_make_lines(lines_of, typed, lines):
    assert lines_of(*typed) == lines


def test_arrow_up_reaches_earlier_chats(lines_of, tmp_path):
    path = tmp_path / "accm" / "chat-history"
    assert lines_of(f"{STAR}\r", f"no{CTRL_C}{CTRL_D}", history=KeptHistory(path)) == [STAR, None]
    assert lines_of(f"{UP}\r", history=KeptHistory(path)) == [STAR]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("my picture.png", "b.JPG", "notes.txt", ".hidden.png", "two\nlines.png"):
        Path(name).touch()
    for name in ("folder", "home", os.fsdecode(b"\xff")):
        Path(name).mkdir()
    Path("home", "z.webp").touch()
    Path("folder", "c.png").touch()


@pytest.mark.parametrize(
    "text, ends",
    [
        ("/image ", ["b.JPG", "folder/", "home/", "my picture.png"]),
        ("/image my p", ["my picture.png"]),
        ("/image .", [".hidden.png"]),
        ("/image folder/", ["c.png"]),
        ("/image ~/", ["z.webp"]),
        ("/image nowhere/", []),
        ("/image a\0/", []),
        ("/tokens ", []),
        ("/t", ["/tokens "]),
        ("/w", ["/why"]),
        ("What /i", []),
        ("", []),
    ],
)
def test_commands_and_pictures_are_completed(pictures, text, ends):
    document = Document(text)
    found = CommandCompleter().get_completions(document, CompleteEvent())
    assert [completion.text for completion in found] == ends


def screen(is_coloured, monkeypatch):
    """What a prompt writes on a terminal of 24 x 80."""
    monkeypatch.setenv("NO_COLOR", "" if is_coloured else "1")
    shown = io.StringIO()
    with create_pipe_input() as pipe:
        output = Vt100_Output(shown, lambda: Size(rows=24, columns=80), term="xterm")
        pipe.send_text(f"Hello?\r{CTRL_D}")
        prompt = Prompt(InMemoryHistory(), pipe, output)
        prompt.read()
        prompt.write("ASSISTANT: ", "label", end="")
        prompt.write("black\x1b[2J", "answer")
        prompt.write("36 of 144", "aside")
    return shown.getvalue()


def test_there_is_colour_unless_it_is_not_wanted(monkeypatch):
    colour = re.compile(r"\x1b\[[0-9;]*[1-9][0-9;]*m")
    assert len(colour.findall(screen(True, monkeypatch))) >= 4
    plain = screen(False, monkeypatch)
    assert not colour.search(plain)
    assert "black?[2J" in plain  # an answer commands no terminal


@pytest.fixture
def ctrl_c_is_heard():
    """As at a terminal, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Impatient:
    """A model whose answers are stopped by the user, twice, after a first token."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def answer(self, samples, on_token):
        if "Stop" not in samples[0].question:
            return self._model.answer(samples, on_token=on_token)
        on_token(0, self._model.language_model.tokenizer.encode("A")[-1])
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_a_chat_that_nobody_types(mini, monkeypatch, capsys, ctrl_c_is_heard):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("llava.model.builder.load_from_arguments", lambda _: Impatient(mini))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{STAR}\nStop this\n{STAR}\n"))
    assert cli.main([]) == 130
    out, err = capsys.readouterr()
    assert out.endswith("ASSISTANT: black\nASSISTANT: A") and err == "stopped by the user\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


READY = "\x1b[?2004h"  # a prompt that begins tells its terminal to mark what is pasted


class Person(threading.Thread):
    """Sits at the other end of a terminal, and types a text at each prompt."""

    def __init__(self, terminal, texts):
        super().__init__(daemon=True)
        self._terminal, self._texts, self.seen = terminal, texts, ""

    def run(self):
        for prompts, text in enumerate(self._texts, 1):
            while self.seen.count(READY) < prompts:
                if not select.select([self._terminal], [], [], 20)[0]:
                    text = CTRL_C + CTRL_D  # lets the test end, and fail
                    break
                self.seen += os.read(self._terminal, 4096).decode()
            os.write(self._terminal, text.encode())


def test_a_chat_in_a_terminal(mini, monkeypatch, tmp_path, ctrl_c_is_heard):
    """The kernel's, with a person who edits, drops, completes, stops an answer and ends."""
    ours, theirs = pty.openpty()
    edited = "What color is te star?" + LEFT * 7 + "h\r"
    dropped = f"never asked{CTRL_C}"
    texts = [edited, dropped, "/wh\t\r", "Stop this\r", "/tokens 1/4\r", CTRL_D]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("llava.model.builder.load_from_arguments", lambda _: Impatient(mini))
    person = Person(ours, texts)
    with open(theirs) as stdin, open(os.dup(theirs), "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stdout", stdout)
        person.start()
        assert cli.main([]) == 0
    person.join(20)
    os.close(ours)
    kept = KeptHistory(tmp_path / "accm" / "chat-history").load_history_strings()
    assert list(kept)[::-1] == [STAR, "/why", "Stop this", "/tokens 1/4"]
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", person.seen).replace("\r", "")
    for part in (
        "ASSISTANT: black\n",
        "(dropped",
        "36 of 144 visual tokens kept",
        "A\n(stopped)\n",
    ):
        assert part in seen, seen
    assert "36 of 144 visual tokens from now on" in seen

"""How far a run is: a bar on a terminal, lines elsewhere, nothing where another process speaks."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from types import SimpleNamespace

from llava.eval import progress


def show(name, total, before, is_shown=True):
    with progress.show_progress(name, total, before, is_shown) as shown:
        for _ in range(total - before):
            shown.update()


def test_lines_begin_where_the_run_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(progress, "INTERVAL", 0)
    show("pope", 187, 184)
    said = capsys.readouterr().err
    assert re.fullmatch(
        "".join(
            f"pope: {n} of 187 questions done, about \\d\\d:\\d\\d to go\n" for n in (185, 186, 187)
        ),
        said,
    )


def test_lines_come_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, *range(1, 11)])  # the start, and a second for each question
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(progress, "INTERVAL", 4)
    show("pope", 10, 0)
    assert capsys.readouterr().err == (
        "pope: 4 of 10 questions done, about 00:06 to go\n"
        "pope: 8 of 10 questions done, about 00:02 to go\n"
    )


def test_a_process_that_does_not_speak_shows_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "INTERVAL", 0)
    show("pope", 3, 0, is_shown=False)
    assert capsys.readouterr().err == ""


def read_all(terminal):
    """Returns what was written to a terminal whose other end is closed."""
    pieces = []
    while True:
        try:
            pieces.append(os.read(terminal, 65536))
        except OSError:  # there is no more
            return b"".join(pieces)


def test_a_bar_begins_where_the_run_goes_on(monkeypatch):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # rows, columns
    try:
        with open(slave, "w", closefd=False) as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            show("pope", 432, 430)
        os.close(slave)
        said = read_all(master).decode()
    finally:
        os.close(master)
    counts = re.findall(r"pope: .*? (\d+)/432 ", said)
    assert (counts[0], counts[-1]) == ("430", "432")

"""Lines kept for later chats: who may read them, what damage does, where nothing can be kept."""

import json
import stat

import pytest

from llava.serve.history import LineHistory, history_path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "accm" / "chat-history"


def test_lines_are_there_in_the_next_chat(path):
    first = LineHistory(path)
    assert first.read() == []
    for line in ("What color?", "What color?", "two\nlines", "  ", "¿Qué?"):
        first.add(line)
    assert LineHistory(path).read() == ["What color?", "two\nlines", "¿Qué?"]


def test_nobody_else_can_read_them(path):
    LineHistory(path).read()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_chats_share_the_file(path):
    one, other = LineHistory(path), LineHistory(path)
    assert one.read() == other.read() == []
    one.add("a"), other.add("b"), one.add("c")
    assert LineHistory(path).read() == ["a", "b", "c"]


def test_any_bytes_are_read(path, fuzz):
    LineHistory(path).read()

    def read(data):
        path.write_bytes(data)
        lines = LineHistory(path).read()
        assert all(isinstance(line, str) for line in lines)

    fuzz(read, [b'"What color?"\n"two\\nlines"\n'])
    path.write_bytes(b'"whole"\n"half\n7\n\xff\n"\\udcff"\n"last"')
    assert LineHistory(path).read() == ["whole", "last"]


def test_of_a_long_file_the_end_is_read(path):
    LineHistory(path).read()
    path.write_text("".join(f"{json.dumps(f'line {n}')}\n" for n in range(50_000)))
    lines = LineHistory(path).read()
    assert 1000 < len(lines) < 50_000 and lines[-1] == "line 49999"
    assert lines[0] == f"line {50_000 - len(lines)}"


def test_a_place_that_cannot_be_written_is_warned_of_once(tmp_path, recwarn):
    (tmp_path / "accm").touch()
    history = LineHistory(tmp_path / "accm" / "chat-history")
    assert history.read() == []
    history.add("a")
    history.add("b")
    (warning,) = recwarn
    assert "is not kept" in str(warning.message) and "--no-history" in str(warning.message)


def test_a_place_that_goes_away_is_warned_of_once(path, recwarn):
    history = LineHistory(path)
    history.read()
    path.unlink()
    path.mkdir()
    history.add("a")
    history.add("b")
    assert len(recwarn) == 1


def test_none_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = LineHistory(None)
    history.add("a")
    assert history.read() == [] and not list(tmp_path.iterdir())


def test_where_lines_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for setting, state in (
        ("", tmp_path / ".local/state"),
        ("relative", tmp_path / ".local/state"),  # which the rules say to ignore
        (str(tmp_path / "other"), tmp_path / "other"),
    ):
        monkeypatch.setenv("XDG_STATE_HOME", setting)
        assert history_path() == state / "accm" / "chat-history"

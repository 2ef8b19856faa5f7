"""Lines kept for later chats: who may read them, what damage does, where nothing can be kept."""

import stat

import pytest

from llava.serve.line_editor import KeptHistory, history_path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "accm" / "chat-history"


def kept(path):
    """The lines of a file, the oldest first."""
    return list(KeptHistory(path).load_history_strings())[::-1]


def test_lines_are_there_in_the_next_chat(path):
    first = KeptHistory(path)
    assert list(first.load_history_strings()) == []
    for line in ("What color?", "two\nlines", "¿Qué?", "half \udcc3"):
        first.store_string(line)
    assert kept(path) == ["What color?", "two\nlines", "¿Qué?", "half ?"]


def test_nobody_else_can_read_them(path):
    KeptHistory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_chats_share_the_file(path):
    one, other = KeptHistory(path), KeptHistory(path)
    one.store_string("a"), other.store_string("b"), one.store_string("c")
    assert kept(path) == ["a", "b", "c"]


def test_any_bytes_are_read(path, fuzz):
    KeptHistory(path)

    def read(data):
        path.write_bytes(data)
        assert all(isinstance(line, str) for line in kept(path))

    fuzz(read, [b"\n# 2026-11-26 15:00:00\n+What color?\n\n# 2026-11-26 15:01:00\n+two\n+lines\n"])


def test_a_place_that_cannot_be_written_is_warned_of_once(tmp_path, recwarn):
    (tmp_path / "accm").touch()
    history = KeptHistory(tmp_path / "accm" / "chat-history")
    assert list(history.load_history_strings()) == []
    history.store_string("a")
    history.store_string("b")
    (warning,) = recwarn
    assert "is not kept" in str(warning.message) and "--no-history" in str(warning.message)


def test_a_place_that_goes_away_is_warned_of_once(path, recwarn):
    history = KeptHistory(path)
    path.unlink()
    path.mkdir()
    history.store_string("a")
    history.store_string("b")
    assert len(recwarn) == 1


def test_a_user_without_a_home_has_no_history(tmp_path, monkeypatch, recwarn):
    """As in a container that runs under a number that belongs to nobody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    history = KeptHistory(history_path())
    history.store_string("a")
    (warning,) = recwarn
    assert "the user has no home" in str(warning.message) and not list(tmp_path.iterdir())


def test_where_lines_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for setting, state in (
        ("", tmp_path / ".local/state"),
        ("relative", tmp_path / ".local/state"),  # which the rules say to ignore
        (str(tmp_path / "other"), tmp_path / "other"),
    ):
        monkeypatch.setenv("XDG_STATE_HOME", setting)
        assert history_path() == state / "accm" / "chat-history"

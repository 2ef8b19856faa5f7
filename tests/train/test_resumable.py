"""Long work goes on where it was stopped, and does nothing twice."""

import json
import resource

import pytest

from llava.errors import UserError
from llava.train.arguments import TrainArguments
from llava.train.resumable import resumable


class Squares:
    """Counts what it is asked for; stops after so many batches, as a killed process does."""

    def __init__(self, batches=None):
        self.begun, self.asked, self.batches = 0, [], batches

    def begin(self):
        self.begun += 1
        return self.work

    def work(self, numbers):
        if len(self.asked) == self.batches:
            raise KeyboardInterrupt
        self.asked.append(numbers)
        return [{"square": number**2} for number in numbers]


EXPECTED = [{"square": number**2} for number in range(7)]


def run(path, squares, total=7, settings=None):
    settings = settings or {"power": 2}
    return resumable(path, total, 3, squares.begin, "squares", settings, TrainArguments())


def test_everything_is_done_once_and_kept(tmp_path):
    path, squares = tmp_path / "squares.jsonl", Squares()
    assert run(path, squares) == EXPECTED
    assert squares.asked == [[0, 1, 2], [3, 4, 5], [6]]
    assert [json.loads(line) for line in path.read_text().splitlines()] == EXPECTED
    again = Squares()
    assert run(path, again) == EXPECTED and again.begun == 0  # nothing is loaded for nothing
    assert run(path, again, total=4) == EXPECTED[:4] and again.begun == 0


def test_it_goes_on_behind_what_is_there(tmp_path):
    path = tmp_path / "squares.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(path, Squares(batches=1))
    squares = Squares()
    assert run(path, squares) == EXPECTED
    assert squares.asked == [[3, 4, 5], [6]]


@pytest.mark.parametrize("torn", [b'{"square": 9', b'{"sq', b"{"])
def test_a_torn_last_line_is_made_again(tmp_path, torn):
    path = tmp_path / "squares.jsonl"
    run(path, Squares(), total=3)
    path.write_bytes(path.read_bytes() + torn)
    squares = Squares()
    assert run(path, squares) == EXPECTED
    assert squares.asked == [[3, 4, 5], [6]]
    assert [json.loads(line) for line in path.read_text().splitlines()] == EXPECTED


def test_results_of_other_settings_are_refused(tmp_path):
    path = tmp_path / "squares.jsonl"
    run(path, Squares(), total=3)
    before = path.read_bytes()
    with pytest.raises(UserError, match="begun with other settings: power was 2, now 3. Name anot"):
        run(path, Squares(), settings={"power": 3})
    assert path.read_bytes() == before


def test_lines_that_nothing_is_known_of_are_refused(tmp_path):
    path = tmp_path / "squares.jsonl"
    path.write_text('{"square": 0}\n')
    with pytest.raises(UserError, match="nothing says what .*squares.jsonl was made with"):
        run(path, Squares())
    assert path.read_text() == '{"square": 0}\n'


@pytest.mark.parametrize("damage", [b"\0" * 13, b"[4]", b'{"square": NaN}', b"\xff"])
def test_a_damaged_line_is_named(tmp_path, damage):
    path = tmp_path / "squares.jsonl"
    run(path, Squares())
    path.write_bytes(path.read_bytes().replace(b'{"square": 4}', damage))
    with pytest.raises(UserError, match=f"{path}, line 3 is damaged.*delete"):
        run(path, Squares())


def test_a_full_disk_keeps_what_is_there(tmp_path, capsys):
    # capsys: the limit is one of all files, and a progress bar that cannot be written to the file
    # with which pytest catches output never gives its lock back.
    path = tmp_path / "squares.jsonl"
    run(path, Squares(), total=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(path.read_bytes()) + 20, hard))
    try:
        with pytest.raises(UserError, match="squares.jsonl.*make room; the same command goes on"):
            run(path, Squares())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run(path, Squares()) == EXPECTED

"""What a stage says at its end: the numbers are those of its files, the command one that works."""

import shutil

import pytest

from llava.train.closing import command_line, say_done
from llava.train.progress import read_losses
from llava.train.stage import Stage
from tests.helpers.toy_stage import toy_arguments


@pytest.mark.parametrize("has_log", [True, False])
def test_the_last_lines_have_the_numbers_of_the_files(tmp_path, undisturbed, capsys, has_log):
    folder = tmp_path / "out"
    shutil.copytree(undisturbed, folder)
    (folder / "step-00000024" / "state.json").write_text('{"step": 24, "seconds": 3723.4}')
    mean = sum(read_losses(folder / "loss.jsonl").values()) / 24
    if not has_log:  # a finished run whose log was thrown away
        (folder / "loss.jsonl").unlink()
    say_done(Stage("toy", toy_arguments(folder), None, None), ["a.pt", "b.pt"], "chat it")
    loss = f", loss {mean:.4f} (mean of 24 steps)" if has_log else ""
    assert capsys.readouterr().out.splitlines() == [
        f"toy: 24 steps, 1:02:03 of training{loss}",
        "written: a.pt, b.pt; next: chat it",
    ]


def test_a_command_has_the_flags_that_are_set():
    made = command_line("llava.serve.cli", model_path="a b", vision_tower=None, compile=True)
    assert made == "python -m llava.serve.cli --model-path 'a b' --compile"

"""Runs that are interrupted, continued and shared, through the command as a user starts it."""

import fcntl
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from llava.eval import answer as answer_command
from llava.eval import model_vqa_loader as answer
from llava.eval.journal import Journal
from llava.utils.stopping import Stopped
from tests.helpers.processes import run_together, start

QUESTIONS = ["Is it red?", "Is there a dog in it, or a cat, or any other animal?", "Is it big?"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Questions as POPE has them: 8 images, 3 questions each."""
    folder = tmp_path_factory.mktemp("pope")
    (folder / "val2014").mkdir()
    lines = []
    for image in range(8):
        name = f"{image}.jpg"
        Image.effect_noise((60, 40), 20 + 20 * image).convert("RGB").save(folder / "val2014" / name)
        for question in QUESTIONS:
            text = question + "\nAnswer the question using a single word or phrase."
            lines.append({"image": name, "text": text, "category": "random"})
    numbered = [{"question_id": i} | line for i, line in enumerate(lines, start=1)]
    text = "".join(json.dumps(line) + "\n" for line in numbered)
    (folder / "llava_pope_test.jsonl").write_text(text)
    return folder


def command_flags(tiny_flags, data_dir):
    questions, images = data_dir / "llava_pope_test.jsonl", data_dir / "val2014"
    words = f"--question-file {questions} --image-folder {images} --max_new_tokens 6"
    return [*tiny_flags, *words.split(), "--visual-token-num", "30"]


@pytest.fixture
def flags(tiny_flags, data_dir):
    return command_flags(tiny_flags, data_dir)


@pytest.fixture(scope="module")
def finished_run(tiny_flags, data_dir, tmp_path_factory):
    """The folder of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    flags = command_flags(tiny_flags, data_dir)
    assert answer.main([*flags, "--answers-file", str(folder / "answers.jsonl")]) == 0
    return folder


@pytest.fixture
def undisturbed(finished_run):
    """Its answers file."""
    return (finished_run / "answers.jsonl").read_bytes()


@pytest.fixture
def finished(finished_run, tmp_path):
    """The answers file of a copy, to be changed."""
    return shutil.copytree(finished_run, tmp_path / "finished") / "answers.jsonl"


@pytest.fixture
def lend_model(monkeypatch, model):
    """Spares the loading."""
    monkeypatch.setattr("llava.eval.caches.load_from_arguments", lambda args: model)


def journal_lines(path):
    return [
        json.loads(line)
        for journal in sorted(path.with_name(path.name + ".run").glob("answers-*.jsonl"))
        for line in journal.read_text().splitlines()
    ]


def start_run(flags, path, **settings):
    """Starts the command in a process of its own, with a log beside the answers file."""
    words = [*flags, "--answers-file", str(path)]
    return start("llava.eval.model_vqa_loader", words, path.with_suffix(".log"), **settings)


def test_a_killed_run_ends_as_if_nothing_had_happened(flags, tmp_path, undisturbed):
    path = tmp_path / "answers.jsonl"
    process = start_run(flags, path)
    journal = path.with_name(path.name + ".run") / "answers-0.jsonl"
    while not journal.is_file() or journal.stat().st_size == 0:
        assert process.is_alive(), path.with_suffix(".log").read_text()
        time.sleep(0.01)
    time.sleep(random.Random(0).random() * 0.3)
    process.kill()
    process.join()
    before = journal.read_bytes()
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed
    assert journal.read_bytes().startswith(before[: before.rfind(b"\n") + 1])  # nothing is redone


@pytest.mark.parametrize("cut", range(0, 3000, 271))
def test_a_journal_cut_anywhere_is_continued(flags, finished, undisturbed, lend_model, cut):
    """As a kill between any two bytes leaves it."""
    path = finished
    journal = path.with_name(path.name + ".run") / "answers-0.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut] if cut else journal.read_bytes())
    path.unlink()
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed


@pytest.mark.parametrize(
    "stop, status, reason",
    [
        (KeyboardInterrupt(), 130, "stopped by the user"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
)
def test_a_stopped_run_says_what_is_kept_and_the_command_goes_on(
    flags, tmp_path, undisturbed, monkeypatch, lend_model, capsys, stop, status, reason
):
    monkeypatch.setattr("llava.eval.progress.INTERVAL", 0)
    path = tmp_path / "my answers.jsonl"
    append = Journal.append
    left = iter(range(10))

    def interrupted(self, outcome):
        if next(left, None) is None:
            raise stop
        append(self, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted)
        assert answer.main([*flags, "--answers-file", str(path)]) == status
    *lines, last = capsys.readouterr().err.splitlines()
    # Nothing was answered before, and no bar is drawn where no terminal is.
    assert [line.partition(" questions")[0] for line in lines] == [
        f"model_vqa_loader: {n} of 24" for n in range(1, 11)
    ]
    said, _, command = last.partition("; the same command goes on: ")
    assert said == f"{reason}: 10 of 24 questions of {path} are answered"
    interpreter, dash_m, module, *words = shlex.split(command)
    assert (dash_m, module) == ("-m", "llava.eval.model_vqa_loader")
    assert words == [*flags, "--answers-file", str(path)]
    assert answer.main(words) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{path}: 10 of 24 questions answered before; going on"
    assert said[1].startswith("model_vqa_loader: 11 of 24 questions done")
    assert said[-1].startswith("model_vqa_loader: 24 of 24 questions done") and len(said) == 15
    assert path.read_bytes() == undisturbed
    assert answer.main(words) == 0
    assert capsys.readouterr().err == ""  # a whole run does not go on


def test_a_full_disk_loses_nothing(flags, tmp_path, undisturbed):
    """A limit on the size of files stands for the disk: it breaks a write in the middle."""
    path = tmp_path / "answers.jsonl"
    process = start_run(flags, path, file_limit=6000)
    process.join()
    said = path.with_suffix(".log").read_text()
    assert process.exitcode == 2, said
    assert "make room or write elsewhere" in said and "Traceback" not in said
    assert journal_lines_whole(path)
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed


def journal_lines_whole(path):
    text = (path.with_name(path.name + ".run") / "answers-0.jsonl").read_bytes()
    return text.count(b"\n") > 0


def test_a_finished_run_is_not_done_again(flags, finished, undisturbed, monkeypatch):
    def never(args):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("llava.eval.caches.load_from_arguments", never)
    assert answer.main([*flags, "--answers-file", str(finished)]) == 0
    assert finished.read_bytes() == undisturbed


def test_two_runs_on_one_file_refuse_each_other(flags, tmp_path, capsys):
    path = tmp_path / "answers.jsonl"
    folder = path.with_name(path.name + ".run")
    folder.mkdir()
    with (folder / "answers-0.jsonl").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert answer.main([*flags, "--answers-file", str(path)]) == 2
    assert "another run is at work" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize(
    "other, says",
    [
        (["--visual-token-num", "31"], "visual_token_num was 30 and is 31"),
        (["--seed", "7"], "seed was 42 and is 7"),
        (["--no-compensation"], "method was 'accm' and is 'prune'"),
        (["--no-image"], "method was 'accm' and is 'no image'"),
        (["--dtype", "bfloat16"], "dtype was 'float32' and is 'bfloat16'"),
    ],
)
def test_other_settings_do_not_continue_a_file(flags, finished, undisturbed, capsys, other, says):
    assert answer.main([*flags, *other, "--answers-file", str(finished)]) == 2
    assert says in capsys.readouterr().err
    assert finished.read_bytes() == undisturbed


def test_a_broken_image_costs_its_answers_and_is_tried_again(
    flags, data_dir, tmp_path, lend_model, capsys, undisturbed
):
    path, image = tmp_path / "answers.jsonl", data_dir / "val2014" / "3.jpg"
    whole = image.read_bytes()
    try:
        image.write_bytes(whole[:100])
        assert answer.main([*flags, "--answers-file", str(path)]) == 1
    finally:
        image.write_bytes(whole)
    assert "3 questions failed" in capsys.readouterr().err
    assert len(path.read_text().splitlines()) == 21
    assert sum("error" in line for line in journal_lines(path)) == 3
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed


def check_that_two_gave(path, undisturbed):
    journals = sorted(path.with_name(path.name + ".run").glob("answers-*.jsonl"))
    counts = [len(journal.read_text().splitlines()) for journal in journals]
    assert len(counts) == 2 and sum(counts) == 24 and min(counts) > 0
    assert path.read_bytes() == undisturbed


def test_two_processes_of_torchrun_give_what_one_gives(flags, tmp_path, undisturbed, warm_python):
    path = tmp_path / "answers.jsonl"
    command = [warm_python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    what = ["-m", "llava.eval.model_vqa_loader", *flags, "--answers-file", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*command, *what], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    check_that_two_gave(path, undisturbed)


def test_two_machines_give_what_one_gives(flags, tmp_path, undisturbed):
    """Each with one process, so that both have the local rank 0."""
    path, log = tmp_path / "answers.jsonl", tmp_path / "log"
    words = [*flags, "--answers-file", str(path)]
    statuses = run_together(2, "llava.eval.model_vqa_loader", words, log, machines=2)
    assert statuses == [0, 0], log.read_text()
    check_that_two_gave(path, undisturbed)


@pytest.mark.parametrize(
    "garbage", ["half a li", "[1]", "{}", '{"key": "1", "record": null}', "\x00"]
)
def test_garbage_in_a_journal_is_asked_again(flags, finished, undisturbed, lend_model, garbage):
    path = finished
    journal = path.with_name(path.name + ".run") / "answers-0.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:5], garbage, *lines[6:]]) + "\n")
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed


def test_what_no_run_made_is_not_overwritten(flags, tmp_path, capsys):
    path = tmp_path / "answers.jsonl"
    path.write_text("precious")
    assert answer.main([*flags, "--answers-file", str(path)]) == 2
    assert "no run of this project made it" in capsys.readouterr().err
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "wrong, says",
    [
        (["--visual-token-num", "9999"], "from 1 to 576"),
        (["--seed", "-1"], "--seed is -1"),
        (["--dtype", "int3"], "no dtype 'int3'"),
        (["--batch-size", "0"], "at least 1"),
    ],
)
def test_a_wrong_flag_is_told_at_once_and_forgotten(flags, tmp_path, capsys, wrong, says):
    path = tmp_path / "answers.jsonl"
    assert answer.main([*flags, *wrong, "--answers-file", str(path)]) == 2
    assert says in capsys.readouterr().err
    assert not journal_lines(path)


def test_a_damaged_line_is_named_and_asked_again(flags, finished, undisturbed, lend_model, capsys):
    path = finished
    journal = path.with_name(path.name + ".run") / "answers-0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    place = lines[4].index(b'"text": "') + 9
    lines[4] = lines[4][:place] + bytes([lines[4][place] ^ 1]) + lines[4][place + 1 :]
    journal.write_bytes(b"".join(lines))
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    said = capsys.readouterr().err
    assert f"warning: line 5 of {journal} is damaged (its checksum is another)" in said
    assert path.read_bytes() == undisturbed


def test_scores_that_are_not_finite_are_no_answer(flags, tmp_path, monkeypatch, load_tiny, capsys):
    model = load_tiny()
    for weight in model.compensator.selector.parameters():
        weight.fill_(float("nan"))
    monkeypatch.setattr("llava.eval.caches.load_from_arguments", lambda args: model)
    path = tmp_path / "answers.jsonl"
    for _ in range(2):  # the journal's own reader takes it, so that nothing is damaged
        assert answer.main([*flags, "--answers-file", str(path)]) == 1
        said = capsys.readouterr().err
        assert "the selector's scores are not finite" in said and "is damaged (" not in said
    assert path.read_bytes() == b""
    assert all("not finite" in line["error"] for line in journal_lines(path))


def test_without_an_image_no_captions_are_loaded_or_asked(
    flags, data_dir, tmp_path, monkeypatch, load_tiny
):
    """A question longer than the caption model can read is no matter then."""
    loaded = []

    def load(args):
        loaded.append(args.has_captions)
        return load_tiny(compensation=args.compensation)

    monkeypatch.setattr("llava.eval.caches.load_from_arguments", load)
    questions = tmp_path / "long.jsonl"
    line = {"question_id": 1, "image": "0.jpg", "text": "Is it red? " * 60}
    questions.write_text(json.dumps(line) + "\n")
    flags = [*flags, "--question-file", str(questions), "--answers-file", str(tmp_path / "a.jsonl")]
    assert answer.main([*flags, "--no-image"]) == 0
    assert loaded == [False]
    (settings,) = tmp_path.glob("*.run/settings.json")
    assert set(json.loads(settings.read_text())["checkpoints"]) == {"model", "vision_tower"}


def test_other_images_of_the_same_names_do_not_continue_a_file(
    flags, data_dir, finished, lend_model, capsys, undisturbed
):
    path, image = finished, data_dir / "val2014" / "3.jpg"
    asked = [line["asked"] for line in journal_lines(path)]
    assert {"image_bytes": image.stat().st_size, "batch_size": 8} in asked
    whole = image.read_bytes()
    try:
        image.write_bytes(whole + b"\0")
        assert answer.main([*flags, "--answers-file", str(path)]) == 2
        says = capsys.readouterr().err
        assert "begun with other images" in says and f"had {len(whole)} bytes" in says
        image.unlink()  # what was answered needs it no more
        assert answer.main([*flags, "--answers-file", str(path)]) == 0
    finally:
        image.write_bytes(whole)
    assert path.read_bytes() == undisturbed


def test_an_old_run_is_continued_to_the_same_file(tiny_flags, tmp_path, monkeypatch, model):
    """Made by commit 569ff11, which knew no checksums, and stopped after two of four answers."""
    old = Path(__file__).parents[1] / "data" / "old_run"
    shutil.copytree(old, tmp_path / "run")
    path = tmp_path / "run" / "llava-v1.5-tiny.jsonl"
    place = path.with_name(path.name + ".run") / "settings.json"
    settings = json.loads(place.read_text())
    settings["versions"] = {name: version(name) for name in settings["versions"]}
    place.write_text(json.dumps(settings, indent=2) + "\n")
    journal = place.with_name("answers-0.jsonl")
    before = journal.read_bytes()
    monkeypatch.setattr("llava.eval.caches.load_from_arguments", lambda args: model)
    monkeypatch.setattr("llava.eval.benchmarks.llava_files.MAX_NEW_TOKENS", 4)
    data = ["--data-dir", str(tmp_path / "run" / "pope"), "--answers-file", str(path)]
    flags = [*tiny_flags, *data, "--batch-size", "2", "--visual-token-num", "36"]
    assert answer_command.main(["pope", *flags]) == 0
    assert path.read_bytes() == (old / "whole.jsonl").read_bytes()
    after = journal.read_bytes()
    assert after.startswith(before) and len(after.splitlines()) == 4

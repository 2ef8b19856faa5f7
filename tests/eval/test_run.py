"""Runs that are interrupted, continued and shared, through the command as a user starts it."""

import fcntl
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from llava.errors import UserError
from llava.eval import model_vqa_loader as answer
from llava.eval.engine import Request, units_by_length, units_in_order
from llava.eval.journal import Journal

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
def undisturbed(tiny_flags, data_dir, tmp_path_factory):
    """The answers file of a run that nothing disturbs."""
    path = tmp_path_factory.mktemp("undisturbed") / "answers.jsonl"
    flags = command_flags(tiny_flags, data_dir)
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    return path.read_bytes()


def journal_lines(path):
    return [
        json.loads(line)
        for journal in sorted(path.with_name(path.name + ".run").glob("answers-*.jsonl"))
        for line in journal.read_text().splitlines()
    ]


def start(flags, path, **settings):
    command = [
        sys.executable,
        "-m",
        "llava.eval.model_vqa_loader",
        *flags,
        "--answers-file",
        str(path),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


def test_a_killed_run_ends_as_if_nothing_had_happened(flags, tmp_path, undisturbed):
    path = tmp_path / "answers.jsonl"
    process = start(flags, path)
    journal = path.with_name(path.name + ".run") / "answers-0.jsonl"
    while not journal.is_file() or journal.stat().st_size == 0:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(random.Random(0).random() * 0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal.read_bytes()
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed
    assert journal.read_bytes().startswith(before[: before.rfind(b"\n") + 1])  # nothing is redone


@pytest.mark.parametrize("cut", range(0, 3000, 271))
def test_a_journal_cut_anywhere_is_continued(flags, tmp_path, undisturbed, monkeypatch, model, cut):
    """As a kill between any two bytes leaves it."""
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
    path = tmp_path / "answers.jsonl"
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    journal = path.with_name(path.name + ".run") / "answers-0.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut] if cut else journal.read_bytes())
    path.unlink()
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed


def test_a_full_disk_loses_nothing(flags, tmp_path, undisturbed):
    """A limit on the size of files stands for the disk: it breaks a write in the middle."""
    path = tmp_path / "answers.jsonl"

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    process = start(flags, path, preexec_fn=small_files)
    _, error = process.communicate()
    assert process.returncode == 2
    assert b"make room or write elsewhere" in error and b"Traceback" not in error
    assert journal_lines_whole(path)
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed


def journal_lines_whole(path):
    text = (path.with_name(path.name + ".run") / "answers-0.jsonl").read_bytes()
    return text.count(b"\n") > 0


def test_a_finished_run_is_not_done_again(flags, tmp_path, undisturbed, monkeypatch):
    path = tmp_path / "answers.jsonl"
    assert answer.main([*flags, "--answers-file", str(path)]) == 0

    def never(args):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("llava.eval.shared.load_from_arguments", never)
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    assert path.read_bytes() == undisturbed


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
def test_other_settings_do_not_continue_a_file(
    flags, tmp_path, monkeypatch, model, capsys, other, says
):
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
    path = tmp_path / "answers.jsonl"
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    before = path.read_bytes()
    assert answer.main([*flags, *other, "--answers-file", str(path)]) == 2
    assert says in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_broken_image_costs_its_answers_and_is_tried_again(
    flags, data_dir, tmp_path, monkeypatch, model, capsys, undisturbed
):
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
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


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_give_what_one_gives(flags, tmp_path, undisturbed, nodes):
    """Two processes of one machine, and two members of a rendezvous with one process each."""
    path = tmp_path / "answers.jsonl"
    command = [sys.executable, "-m", "torch.distributed.run"]
    if nodes == 1:
        starts = [[*command, "--standalone", "--nproc_per_node", "2"]]
    else:
        port = str(20_000 + os.getpid() % 20_000)
        meet = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1"]
        starts = [
            [*command, *meet, "--master_port", port, "--node_rank", rank] for rank in ("0", "1")
        ]
    what = ["-m", "llava.eval.model_vqa_loader", *flags, "--answers-file", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*start, *what], stderr=subprocess.PIPE, env=environment, text=True)
        for start in starts
    ]
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    journals = sorted(path.with_name(path.name + ".run").glob("answers-*.jsonl"))
    counts = [len(journal.read_text().splitlines()) for journal in journals]
    assert len(counts) == 2 and sum(counts) == 24 and min(counts) > 0
    assert path.read_bytes() == undisturbed


@pytest.mark.parametrize(
    "garbage", ["half a li", "[1]", "{}", '{"key": "1", "record": null}', "\x00"]
)
def test_garbage_in_a_journal_is_asked_again(
    flags, tmp_path, undisturbed, monkeypatch, model, garbage
):
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
    path = tmp_path / "answers.jsonl"
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
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


def test_settings_of_a_run_that_answered_nothing_do_not_count(tmp_path):
    Journal(tmp_path / "a.jsonl", {"seed": 1}).close()
    with Journal(tmp_path / "a.jsonl", {"seed": 2}) as journal:
        journal.append({"key": "1", "record": {}})
    with pytest.raises(UserError, match="seed was 2 and is 1"):
        Journal(tmp_path / "a.jsonl", {"seed": 1})


@pytest.mark.parametrize("name", ["settings.json", "."])
def test_what_stands_in_the_way(tmp_path, name):
    path = tmp_path / "a.jsonl"
    with Journal(path, {}) as journal:
        journal.append({"key": "1", "record": {}})
    if name == ".":
        path.mkdir()
    else:
        (tmp_path / "a.jsonl.run" / name).write_text("{")
    with pytest.raises(UserError, match="not valid JSON|is a folder"):
        Journal(path, {})


def requests(*images):
    return [Request(i, image, "question " * (i % 4 + 1)) for i, image in enumerate(images)]


def test_units_keep_the_questions_of_an_image_together():
    units = units_by_length(requests(*"aabacddddde"), 3)
    seen = [{request.image for batch in unit for request in batch} for unit in units]
    for image in "abcde":
        assert sum(image in images for images in seen) == 1
    assert all(len(batch) <= 3 for unit in units for batch in unit)
    assert sorted(r.id for unit in units for batch in unit for r in batch) == list(range(11))


def test_units_in_order_are_in_order():
    units = units_in_order(requests(*"abcde"), 2)
    assert [[request.id for request in batch] for (batch,) in units] == [[0, 1], [2, 3], [4]]
    with pytest.raises(UserError, match="at least 1"):
        units_in_order([], 0)


def test_an_error_does_not_undo_an_answer(tmp_path):
    with Journal(tmp_path / "a.jsonl", {}) as journal:
        journal.append({"key": "1", "record": {"text": "yes"}})
        journal.append({"key": "1", "error": "lost"})
        assert journal.outcomes()["1"]["record"] == {"text": "yes"}

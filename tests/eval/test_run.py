"""Runs that are interrupted, continued and shared, through the command as a user starts it."""

import dataclasses
import fcntl
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from PIL import Image

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.eval import answer as answer_command
from llava.eval import model_vqa_loader as answer
from llava.eval import model_vqa_mmbench, sweep
from llava.eval.arguments import AskArguments
from llava.eval.benchmarks.llava_files import read_question_file
from llava.eval.engine import Request, units_by_length, units_in_order
from llava.eval.journal import Journal
from llava.eval.run import Run, run_settings
from llava.eval.shared import Shared
from llava.eval.stopping import Stopped
from llava.model.loading.parts import locate_parts
from llava.model.loading.placement import Placement

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


@pytest.mark.parametrize(
    "stop, status, reason",
    [
        (KeyboardInterrupt(), 130, "stopped by the user"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
)
def test_a_stopped_run_says_what_is_kept_and_the_command_goes_on(
    flags, tmp_path, undisturbed, monkeypatch, model, capsys, stop, status, reason
):
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
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


def test_a_damaged_line_is_named_and_asked_again(
    flags, tmp_path, undisturbed, monkeypatch, model, capsys
):
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
    path = tmp_path / "answers.jsonl"
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    journal = path.with_name(path.name + ".run") / "answers-0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    place = lines[4].index(b'"text": "') + 9
    lines[4] = lines[4][:place] + bytes([lines[4][place] ^ 1]) + lines[4][place + 1 :]
    journal.write_bytes(b"".join(lines))
    capsys.readouterr()
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
    said = capsys.readouterr().err
    assert f"warning: line 5 of {journal} is damaged (its checksum is another)" in said
    assert path.read_bytes() == undisturbed


def test_scores_that_are_not_finite_are_no_answer(flags, tmp_path, monkeypatch, load_tiny, capsys):
    model = load_tiny()
    for weight in model.compensator.selector.parameters():
        weight.fill_(float("nan"))
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
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

    monkeypatch.setattr("llava.eval.shared.load_from_arguments", load)
    questions = tmp_path / "long.jsonl"
    line = {"question_id": 1, "image": "0.jpg", "text": "Is it red? " * 60}
    questions.write_text(json.dumps(line) + "\n")
    flags = [*flags, "--question-file", str(questions), "--answers-file", str(tmp_path / "a.jsonl")]
    assert answer.main([*flags, "--no-image"]) == 0
    assert loaded == [False]
    (settings,) = tmp_path.glob("*.run/settings.json")
    assert set(json.loads(settings.read_text())["checkpoints"]) == {"model", "vision_tower"}


def test_other_images_of_the_same_names_do_not_continue_a_file(
    flags, data_dir, tmp_path, monkeypatch, model, capsys, undisturbed
):
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
    path, image = tmp_path / "answers.jsonl", data_dir / "val2014" / "3.jpg"
    assert answer.main([*flags, "--answers-file", str(path)]) == 0
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
    monkeypatch.setattr("llava.eval.shared.load_from_arguments", lambda args: model)
    monkeypatch.setattr("llava.eval.benchmarks.llava_files.MAX_NEW_TOKENS", 4)
    data = ["--data-dir", str(tmp_path / "run" / "pope"), "--answers-file", str(path)]
    flags = [*tiny_flags, *data, "--batch-size", "2", "--visual-token-num", "36"]
    assert answer_command.main(["pope", *flags]) == 0
    assert path.read_bytes() == (old / "whole.jsonl").read_bytes()
    after = journal.read_bytes()
    assert after.startswith(before) and len(after.splitlines()) == 4


# Flags that decide the result, each with another value; settings must tell the two apart.
DECIDING = {
    "model_path": "other-model",
    "vision_tower": "other-tower",
    "gpt2": "other-gpt2",
    "caption_model": "other-caption.pt",
    "selector": "other-selector.pt",
    "longclip": "other-longclip.pt",
    "dtype": "bfloat16",
    "compile": True,
    "cpu_products": "packed",
    "compensation": False,
    "patch_post_layernorm": False,
    "text_selection": "nearest",
    "silence": False,
    "pruner": "random",
    "visual_token_num": 31,
    "text_token_num": 5,
    "seed": 7,
    "no_image": True,
}
ON_A_GPU = {"load_8bit": "8bit", "load_4bit": "4bit"}  # they decide as well; refused elsewhere
FREE = {
    "checkpoints_root": "checkpoints are told by what is in them",
    "device": "its kind is in the settings; which one of a kind decides nothing",
    "device_map": "where the LLM's layers lie decides nothing",
    "batch_size": "in float32 it decides nothing; each line of the journal says it",
    "answers_file": "where the answers go",
}
ASKED = {  # what decides which questions are asked, and so the settings' hash of them
    *("data_dir", "data_root", "question_file", "image_folder", "num_chunks", "chunk_idx"),
    *("max_new_tokens", "limit"),
}
ONE_VALUE = {  # others are refused
    *("model_base", "conv_mode", "temperature", "top_p", "num_beams"),
    *("single_pred_prompt", "all_rounds", "lang"),
}
OF_A_SWEEP = {  # its runs' flags are made of these; the others are where things are
    *("budgets", "methods", "benchmarks", "output_dir", "report", "allow_missing"),
}


@pytest.mark.parametrize(
    "arguments, more",
    [
        (answer_command.AnswerArguments, set()),
        (answer.LoaderArguments, ONE_VALUE),
        (model_vqa_mmbench.MmbenchArguments, ONE_VALUE),
        (sweep.SweepArguments, OF_A_SWEEP),
    ],
)
def test_every_flag_is_in_the_settings_or_free(arguments, more):
    names = {field.name for field in dataclasses.fields(arguments)}
    assert names <= {*DECIDING, *ON_A_GPU, *FREE, *ASKED, *more}


@pytest.fixture
def settings_of(tiny_settings, tmp_path):
    """run_settings with other flags; names of other checkpoints are copies with a byte more."""
    found = locate_parts(ModelArguments(**tiny_settings))

    def other(name):
        part = "model" if name == "model_path" else name
        copy = tmp_path / DECIDING[name]
        if found[part].is_dir():
            shutil.copytree(found[part], copy)
            (copy / "more.txt").write_text("x")
        else:
            copy.write_bytes(found[part].read_bytes() + b"x")
        return str(copy)

    def settings(**changes):
        for name in changes.keys() & {"model_path", *found}:
            changes[name] = other(name)
        args = AskArguments(**(tiny_settings | {"visual_token_num": 30} | changes))
        run = Run("pope", [], None, tmp_path / "a.jsonl", "tiny")
        return run_settings(run, args.without_unused_parts(), Shared(args.has_captions))

    return settings


@pytest.mark.parametrize("name", DECIDING)
def test_settings_tell_runs_apart(settings_of, name):
    assert settings_of(**{name: DECIDING[name]}) != settings_of()


@pytest.mark.parametrize("name", ON_A_GPU)
def test_quantised_weights_are_in_the_settings(settings_of, name, monkeypatch):
    with pytest.raises(UserError, match="is for a GPU"):
        settings_of(**{name: True})
    place = Placement(torch.device("cuda"), torch.bfloat16)
    monkeypatch.setattr("llava.eval.run.placement", lambda args: place)
    monkeypatch.setattr("llava.eval.run.version", lambda package: f"version of {package}")
    assert settings_of()["quantized"] is None and "bitsandbytes" not in settings_of()["versions"]
    settings = settings_of(**{name: True})
    assert settings["quantized"] == ON_A_GPU[name]
    assert settings["versions"]["bitsandbytes"] == "version of bitsandbytes"


def test_questions_are_in_the_settings(data_dir, tiny_settings, tmp_path):
    args = AskArguments(**tiny_settings)
    (one, two, *_) = [
        dataclasses.replace(question, max_new_tokens=n)
        for question in read_question_file(data_dir / "llava_pope_test.jsonl", data_dir)
        for n in (4, 5)
    ]
    settings = [
        run_settings(Run("pope", asked, None, tmp_path / "a", "tiny"), args, Shared(True))
        for asked in ([one], [two], [one, two], [])
    ]
    assert len({found["questions"] for found in settings}) == 4

"""The command that makes the mini world's data."""

import hashlib
import json

import pytest
from PIL import Image

from llava.mini import make_data
from llava.mini.training_set import write_training_set


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_train(out, *flags):
    flags = ["--out", str(out), "--parts", "train", "--processes", "1", *flags]
    return make_data.main(flags)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    assert make_train(folder, "--train-images", "6", "--seed", "3") == 0
    return folder


def test_training_files(out):
    train = out / "train"
    captions = json.loads((train / "captions.json").read_text())
    records = json.loads((train / "conversations.json").read_text())
    lines = [json.loads(line) for line in (train / "texts.jsonl").read_text().splitlines()]
    assert len(captions["images"]) == len(records) == len(lines) == 6
    assert len({a["id"] for a in captions["annotations"]}) == 30
    for image, record, line in zip(captions["images"], records, lines):
        with Image.open(train / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        assert record["image"] == image["file_name"] and record["id"] == str(image["id"])
        said = [a["caption"] for a in captions["annotations"] if a["image_id"] == line["id"]]
        names = {thing["name"] for thing in line["scene"]}
        assert len(said) == 5 and all(any(name in text for name in names) for text in said)
        turns = record["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        images = [turn["value"].count("<image>") for turn in turns]
        assert images == [1] + [0] * (len(turns) - 1)
        assert turns[0]["value"].startswith("<image>\n")


def test_any_number_of_processes_makes_the_same(tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        write_training_set(tmp_path / name, seed=3, images=130, processes=processes)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_another_seed_makes_other_images(out, tmp_path):
    make_train(tmp_path, "--train-images", "6", "--seed", "4")
    assert not set(hashes(out).values()) & set(hashes(tmp_path).values())


def test_training_and_test_images_differ(out, eval_folder):
    assert not set(hashes(out).values()) & set(hashes(eval_folder).values())


def test_the_same_command_again_does_nothing(out, capsys):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert make_train(out, "--train-images", "6", "--seed", "3") == 0
    assert "is there already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_what_a_stopped_run_left_is_replaced(tmp_path, out):
    (tmp_path / "train.partial" / "images").mkdir(parents=True)
    (tmp_path / "train.partial" / "images" / "0.jpg").write_bytes(b"half")
    assert make_train(tmp_path, "--train-images", "6", "--seed", "3") == 0
    assert hashes(tmp_path) == hashes(out)


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--train-images", "7", "--seed", "3"], "was made with train_images 6, not 7"),
        (["--train-images", "6"], "was made with seed 3, not 0"),
        (["--parts", "eval"], "was made with seed 3, not 0"),
        (["--parts", "some"], "--parts some: say all, train or eval"),
        (["--split", "train"], "--split train: say validation or test"),
        (["--train-images", "0"], "--train-images 0: say 1 or more"),
        (["--processes", "0"], "--processes 0: say 1 or more"),
        (["--seed", "-1"], "--seed -1: say 0 or more"),
    ],
)
def test_flags_that_do_not_fit(out, capsys, flags, says):
    before = hashes(out)
    assert make_train(out, *flags) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert hashes(out) == before


def test_folders_that_do_not_fit(tmp_path, capsys):
    assert make_data.main([]) == 2
    assert "say where the data go" in capsys.readouterr().err
    (tmp_path / "train").mkdir()
    assert make_train(tmp_path) == 2
    assert "was not made by this command" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert make_train(tmp_path / "file") == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_share_of_the_benchmarks(tmp_path, capsys):
    flags = ["--out", str(tmp_path), "--parts", "eval"]
    assert make_data.main([*flags, "--share", "0.02"]) == 0
    assert len(list((tmp_path / "eval/mmvp/MMVP Images").iterdir())) == 2 * 3
    assert make_data.main(flags) == 2
    assert "was made with share 0.02, not 1.0" in capsys.readouterr().err


def test_a_scale_of_two_has_objects_of_half_the_size(tmp_path, capsys):
    flags = ["--out", str(tmp_path / "w"), "--parts", "train", "--train-images", "3"]
    assert make_data.main([*flags, "--scale", "2", "--processes", "1"]) == 0
    assert make_data.main([*flags[:1], str(tmp_path / "one"), *flags[2:], "--processes", "1"]) == 0
    large, small = (
        [json.loads(line)["scene"] for line in (tmp_path / name / "train/texts.jsonl").open()]
        for name in ("one", "w")
    )
    for of_large, of_small in zip(large, small):
        for one, other in zip(of_large, of_small):
            assert one == other | {"radius": one["radius"]}
            assert other["radius"] == one["radius"] / 2
    with Image.open(tmp_path / "w/train/images/0.jpg") as picture:
        assert picture.size == (192, 192)
    capsys.readouterr()
    assert make_data.main([*flags, "--processes", "1"]) == 2
    assert "was made with scale 2, not 1" in capsys.readouterr().err
    assert make_data.main([*flags, "--scale", "0"]) == 2
    assert "--scale 0" in capsys.readouterr().err

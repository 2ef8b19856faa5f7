"""Benchmarks brought from stand-ins of their homes."""

import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from llava.benchmarks.__main__ import BY_HAND, main
from llava.eval.benchmarks.registry import BENCHMARKS, FOLDERS, data_folder, reader

LABELS = "coco_pope_random.json"


def read(benchmark, root):
    """Key, prompt and picture of each question."""
    questions = reader(benchmark).read_questions(data_folder(benchmark, None, str(root)))
    return [
        (q.key, q.prompt, q.image if isinstance(q.image, bytes) else q.image.read_bytes())
        for q in questions
    ]


@pytest.fixture
def run(known, homes, network, tmp_path, capsys):
    """Runs the command on the tiny benchmarks; gives its exit status and what it prints."""

    def command(*words, known=known):
        status = main([*words, "--data-root", str(tmp_path / "eval")], known, network)
        done = capsys.readouterr()
        return status, done.out + done.err

    return command


@pytest.fixture
def root(tmp_path):
    return tmp_path / "eval"


def get(homes, name):
    """What was asked for under a file's name."""
    return [path for _, path, _ in homes.requests if path.endswith(name)]


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "flickr"])
def test_a_benchmark_comes_into_the_layout_that_its_reader_reads(run, root, tiny, homes, name):
    status, out = run("download", name, "--accept-terms")
    assert status == 0, out
    assert read(name, root) == read(name, tiny)
    assert "licence: " in out and "GB free" in out and f"ok   {name}: " in out
    assert not list(root.rglob("*.zip")) and not list(root.rglob("*.partial"))
    assert run("verify", name)[0] == 0

    homes.requests.clear()
    assert run("download", name, "--accept-terms")[0] == 0
    assert not homes.requests  # nothing is asked for again


@pytest.mark.parametrize("name, below", [("pope", "val2014"), ("gqa", "data/images")])
def test_empty_images_are_fetched_again(run, root, tiny, name, below):
    run("download", name)
    image = sorted((root / name / below).iterdir())[0]
    image.write_bytes(b"")
    status, out = run("verify", name)
    assert status == 1 and f"the first is {image}, which is broken: remove it" in out
    assert run("download", name)[0] == 0
    assert read(name, root) == read(name, tiny)


def test_empty_images_got_by_hand_are_named_and_unpacked_again(run, root, tiny):
    run("download", "flickr")
    folder = root / "Flickr/flickr30k-images"
    shutil.copytree(tiny / "Flickr/flickr30k-images", folder)
    image = sorted(folder.iterdir())[0]
    image.write_bytes(b"")
    status, out = run("download", "flickr")
    assert status == BY_HAND and f"1 images are broken, the first is {image}: remove it" in out
    with tarfile.open(root / "Flickr/flickr30k-images.tar", "w") as archive:
        archive.add(tiny / "Flickr/flickr30k-images", "flickr30k-images")
    assert run("download", "flickr")[0] == 0
    assert read("flickr", root) == read("flickr", tiny)


def test_where_only_questions_are_lacking_the_images_are_not_asked_for(run, root, homes):
    run("download", "gqa")
    homes.requests.clear()
    (root / "gqa/data/testdev_balanced_questions.json").unlink()
    assert run("download", "gqa")[0] == 0 and not get(homes, "images.zip")


def test_flickr_needs_a_form_and_its_archive_is_unpacked(run, root, tiny):
    status, out = run("download", "flickr")
    assert status == BY_HAND
    assert "HAND flickr: " in out and "0 of 3 images" in out
    assert "with the form at https://shannon.cs" in out and "flickr30k-images.tar.gz" in out
    assert (root / "Flickr/dataset_flickr30k.json").is_file()
    assert run("verify", "flickr")[0] == BY_HAND

    with tarfile.open(root / "Flickr/flickr30k-images.tar.gz", "w:gz") as archive:
        archive.add(tiny / "Flickr/flickr30k-images", "flickr30k-images")
    status, out = run("download", "flickr")
    assert status == 0, out
    assert read("flickr", root) == read("flickr", tiny)


def test_images_that_are_laid_there_by_hand_do_too(run, root, tiny):
    run("download", "flickr")
    shutil.copytree(tiny / "Flickr/flickr30k-images", root / "Flickr/flickr30k-images")
    assert run("download", "flickr")[0] == 0


def test_videos_of_seed_are_left_by_hand(run, root, tiny, homes, known):
    table = tiny / "seed_bench/SEED-Bench.json"
    text = table.read_text().replace('"data_type": "image"', '"data_type": "video"', 1)
    files = {
        "SEED-Bench.json": text.encode(),
        "SEED-Bench-image.zip": homes.files[
            "/datasets/AILab-CVC/SEED-Bench/resolve/main/SEED-Bench-image.zip"
        ],
    }
    homes.add_repository("AILab-CVC/SEED-Bench", files, "dataset")
    known["seed"].questions["SEED-Bench-image"] -= 1
    status, out = run("download", "seed")
    assert status == BY_HAND and "7 of 8 images" in out and "Something-Something v2" in out


def test_terms_have_to_be_accepted(run, root, homes):
    status, out = run("download", "mme", "mmvp")
    assert status == BY_HAND
    assert "academic research" in out and "--accept-terms" in out and "ok   mmvp" in out
    assert not (root / "MME").exists() and not get(homes, ".zip")


def test_all_brings_what_it_can_and_says_what_is_left(run, root):
    status, out = run("download", "all", "--accept-terms")
    lines = out.splitlines()
    assert status == BY_HAND
    verdicts = {line.split()[1].rstrip(":"): line.split()[0] for line in lines if ": /" in line}
    assert verdicts == dict.fromkeys(BENCHMARKS, "ok") | {"flickr": "HAND"}
    assert sorted(path.name for path in root.iterdir()) == sorted(f[0] for f in FOLDERS.values())


def test_one_that_fails_does_not_keep_the_others_from_it(run, homes):
    path = next(path for path in homes.files if path.endswith(LABELS))
    del homes.files[path]
    status, out = run("download", "pope", "mmvp")
    assert status == 1
    assert "BAD  pope: coco_pope_random.json could not be fetched" in out and "ok   mmvp" in out


def test_wrong_counts_are_told(run, root, homes):
    path = next(path for path in homes.files if path.endswith(LABELS))
    whole = homes.files[path]
    homes.files[path] = whole[: whole.index(b"\n") + 1]
    status, out = run("download", "pope")
    assert status == 1 and "25 questions instead of 36: another edition, or cut short" in out
    homes.files[path] = whole
    (root / "pope/coco" / LABELS).unlink()
    assert run("download", "pope")[0] == 0


def test_a_download_that_was_cut_goes_on(run, root, tiny, homes):
    path = next(path for path in homes.files if path.endswith(".tsv"))
    whole = homes.files[path]
    (root / "mmbench").mkdir(parents=True)
    (root / "mmbench/mmbench_dev_20230712.tsv.partial").write_bytes(whole[:5000])
    assert run("download", "mmbench")[0] == 0
    assert homes.fetched(path) == ["bytes=0-0", "bytes=5000-"]  # its size, and what is lacking
    assert read("mmbench", root) == read("mmbench", tiny)


def test_a_missing_and_a_broken_image_are_found_and_mended(run, root, tiny):
    run("download", "gqa")
    image, other = sorted((root / "gqa/data/images").iterdir())[:2]
    image.unlink()
    other.write_bytes(other.read_bytes()[:100])
    status, out = run("verify", "gqa", "--no-decode")
    assert status == 1 and f"1 of 11 images are missing or broken, the first is {image}" in out
    status, out = run("verify", "gqa")
    assert status == 1 and "2 of 11 images" in out
    assert run("download", "gqa")[0] == 0
    assert read("gqa", root) == read("gqa", tiny)


def test_a_question_about_an_image_elsewhere_is_refused(run, root, homes):
    path = next(path for path in homes.files if path.endswith(LABELS))
    homes.files[path] = homes.files[path].replace(b"COCO_val2014_000000000001", b"../../../evil")
    homes.files["/evil.jpg"] = b"evil"
    status, out = run("download", "pope")
    assert status == 1 and "which leads out of" in out and not list(root.parent.rglob("evil.jpg"))


def test_an_archive_that_is_there_already_is_not_fetched(run, root, tiny, homes):
    (root / "gqa").mkdir(parents=True)
    (root / "gqa/images.zip").write_bytes(homes.files.pop("/nlp/data/gqa/images.zip"))
    assert run("download", "gqa")[0] == 0
    assert read("gqa", root) == read("gqa", tiny) and not get(homes, "images.zip")


def test_flickr_goes_on_without_the_authors_own_captions(run, root, tiny, homes):
    del homes.files["/api/models/fumingyu064/ACCM"]
    shutil.copytree(tiny / "Flickr/flickr30k-images", root / "Flickr/flickr30k-images")
    status, out = run("download", "flickr")
    assert status == 0 and "going on without: there is no model fumingyu064/ACCM" in out
    assert [path.name for path in (root / "Flickr").glob("*.json*")] == ["dataset_flickr30k.json"]


def test_a_hub_that_is_away_is_not_taken_for_one_without_the_captions(run, root, homes):
    homes.answers["/api/models/fumingyu064/ACCM"] = [503] * 9
    status, out = run("download", "flickr")
    assert status == 1 and "BAD  flickr: fumingyu064/ACCM could not be fetched" in out
    assert "going on without" not in out and not (root / "Flickr/dataset_flickr30k.json").exists()


@pytest.mark.parametrize("words", [["verify", "gqa"], ["download", "gqa", "--dry-run"]])
def test_a_folder_that_cannot_be_looked_at_is_one_message(tmp_path, capsys, words):
    """A name that is too long, since root may look into every folder."""
    assert main([*words, "--data-root", str(tmp_path / ("x" * 300))]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: cannot look at ") and len(err.splitlines()) == 1


def test_an_archive_that_tries_tricks_is_refused(run, root, tmp_path):
    run("download", "flickr")
    (tmp_path / "x.jpg").write_bytes(b"x")
    with tarfile.open(root / "Flickr/flickr30k-images.tar", "w") as archive:
        archive.add(tmp_path / "x.jpg", "../../1.jpg")
        link = tarfile.TarInfo("flickr30k-images/2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    status, out = run("download", "flickr")
    assert status == 1 and "nothing was unpacked" in out
    assert not (root / "Flickr/flickr30k-images").exists()
    assert not list(tmp_path.glob("*/1.jpg"))


def test_a_full_disk_is_one_message_and_the_same_command_goes_on(run, root, tiny):
    partial = root / f"gqa/data/images/n3.jpg.{os.getpid()}.partial"
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    status, out = run("download", "gqa")
    assert status == 1 and "BAD  gqa: no room left in" in out and "make room there" in out
    assert run("download", "gqa")[0] == 0
    assert read("gqa", root) == read("gqa", tiny)


def test_a_server_that_is_away_is_one_message(run, homes):
    homes.files.clear()
    status, out = run("download", "mmvp")
    assert status == 1 and "BAD  mmvp: there is no dataset MMVP/MMVP on the hub" in out


def test_a_dry_run_asks_for_nothing(run, root, homes):
    status, out = run("download", "all", "--dry-run")
    assert status == 0 and not homes.requests and not root.exists()
    assert "GB and 50,781 questions in all" in out and "by hand: The images are Flickr" in out


@pytest.mark.parametrize(
    "words, says",
    [
        (["fly"], "say what to do, one of: download, verify"),
        (["download"], "say which: mme"),
        (["download", "vqa"], "no benchmark 'vqa'"),
        (["verify"], "say which: mme"),
    ],
)
def test_bad_words_get_one_line(capsys, words, says):
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_help_names_the_commands(capsys):
    assert main(["--help"]) == 0
    assert "python -m llava.benchmarks download|verify ... --help" in capsys.readouterr().out


def test_verify_says_what_is_missing_where_nothing_is(run):
    status, out = run("verify", "all")
    assert status == 1 and out.count("BAD  ") == 7 and "get it from https://" in out


def test_the_command_starts_without_what_only_models_need():
    """torch and transformers take seconds to import."""
    code = (
        "import sys, llava.benchmarks.__main__; print({'torch', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

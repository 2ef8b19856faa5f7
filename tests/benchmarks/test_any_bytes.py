"""Any bytes in any file of a benchmark give questions and scores, or one line for the user."""

import json

import pytest

from llava.eval.benchmarks.registry import BENCHMARKS, reader, scorer
from llava.eval.score import read_answers
from tests.helpers.damaged_benchmarks import sound_folders

FILES = [
    ("mme", "llava_mme.jsonl"),
    ("mme", "MME_Benchmark_release_version/color/{}.txt"),
    ("mmbench", "mmbench_dev_20230712.tsv"),
    ("pope", "llava_pope_test.jsonl"),
    ("pope", "coco/coco_pope_random.json"),
    ("mmvp", "Questions.csv"),
    ("seed", "llava-seed-bench.jsonl"),
    ("seed", "SEED-Bench.json"),
    ("gqa", "llava_gqa_testdev_balanced.jsonl"),
    ("gqa", "data/testdev_balanced_questions.json"),
    ("gqa", "data/testdev_balanced_choices.json"),
    ("flickr", "questions-3k.jsonl"),
    ("flickr", "annotations-3k.jsonl"),
    ("flickr", "dataset_flickr30k.json"),
    ("flickr-bare", "dataset_flickr30k.json"),
    ("flickr-token", "results_20130124.token"),
]


@pytest.fixture(scope="module")
def sound(tiny, tmp_path_factory):
    return sound_folders(tiny, tmp_path_factory.mktemp("sound"))


def records_of(benchmark, folder):
    module = reader(benchmark)
    questions = module.read_questions(folder)
    return [module.answer_record(question, "Yes", "", "m") for question in questions]


def score_of(benchmark):
    """Scoring; of Flickr30k all but the metrics, as Java takes seconds to start."""
    module = scorer(benchmark)
    return module.match_answers if benchmark == "flickr" else module.score


@pytest.mark.filterwarnings("ignore:images are left out")
@pytest.mark.parametrize("variant, name", FILES)
def test_files_of_the_data(sound, fuzz, variant, name):
    benchmark, folder = sound[variant]
    path = folder / name
    if "{}" in name:
        path = sorted(path.parent.glob("*.txt"))[0]
    seed = path.read_bytes()

    def read(content):
        path.write_bytes(content)
        score_of(benchmark)(folder, records_of(benchmark, folder))

    try:
        fuzz(read, [seed, b"\xef\xbb\xbf" + seed.replace(b"\n", b"\r\n")])
    finally:
        path.write_bytes(seed)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_answers_files(sound, fuzz, benchmark, tmp_path):
    _, folder = sound[benchmark]
    path = tmp_path / "answers.jsonl"
    records = records_of(benchmark, folder)

    def read(content):
        path.write_bytes(content)
        score_of(benchmark)(folder, read_answers(path), allow_missing=True)

    fuzz(read, ["".join(json.dumps(record) + "\n" for record in records).encode()])

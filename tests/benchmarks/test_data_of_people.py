"""What verify says of a folder is what comes of it when it is answered and scored.

``--fuzz-inputs 20000`` tries all damaged folders; the default is a sample of them.
"""

import json
import shutil

import pytest

from llava.benchmarks.catalog import KNOWN
from llava.benchmarks.verify import verify_benchmark
from llava.conversation import check_text
from llava.errors import UserError
from llava.eval import answer, score
from llava.eval.benchmarks.registry import BENCHMARKS, data_folder, reader
from llava.eval.scoring import captions
from llava.mm_utils import load_image
from tests.helpers.damaged_benchmarks import damages, harmless, sound_folders

EACH = 6  # inputs of --fuzz-inputs for one damaged folder


@pytest.fixture(scope="module")
def sound(tiny, tmp_path_factory):
    return sound_folders(tiny, tmp_path_factory.mktemp("sound"))


@pytest.fixture(autouse=True)
def fast_metrics(monkeypatch):
    """Java takes seconds to start, and is no part of the data."""
    monkeypatch.setattr(captions, "java_command", list)
    monkeypatch.setattr(captions, "tokenize", lambda java, texts: [t.lower() for t in texts])
    monkeypatch.setattr(captions, "meteor", lambda *_: 0.5)


def try_out(benchmark, folder, path):
    """Whether a folder can be answered and scored; every mistake must be told in one line."""
    try:
        run = answer.read_run(benchmark, folder, path, "model")
        for question in run.questions:
            load_image(question.image)
            check_text("question", question.prompt)
            check_text("tower question", question.tower_question)
        records = [run.answer_record(question, "Yes", "", "m") for question in run.questions]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        flags = score.ScoreArguments(data_dir=str(folder), answers_file=str(path))
        assert score.score(benchmark, flags) == 0
    except UserError as error:
        assert_one_line(str(error))
        return False
    return True


def assert_one_line(message):
    assert message and "\n" not in message and len(message) < 1500, message
    message.encode("utf-8")


def fields(question):
    image = question.image if isinstance(question.image, bytes) else question.image.name
    return (question.key, question.question_id, question.prompt, question.tower_question, image)


VARIANTS = ["mme", "mme-bare", "mmbench", "pope", "pope-bare", "mmvp", "seed", "seed-bare", "gqa"]
VARIANTS += ["gqa-bare", "flickr", "flickr-bare", "flickr-token", "flickr-annotations"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sound_folder_is_ok_however_it_was_written(sound, variant, tmp_path):
    benchmark, folder = sound[variant]
    wanted = [fields(question) for question in reader(benchmark).read_questions(folder)]
    for number, (name, change) in enumerate([("nothing", lambda copy: None), *harmless(folder)]):
        copy = shutil.copytree(folder, tmp_path / str(number), symlinks=True)
        change(copy)
        found = verify_benchmark(KNOWN[benchmark], copy, decode=True, any_edition=True)
        assert found.is_whole, (name, str(found))
        asked = [fields(question) for question in reader(benchmark).read_questions(copy)]
        assert asked == wanted, name
        assert try_out(benchmark, copy, tmp_path / "answers.jsonl"), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_verify_promises_what_run_and_score_need(sound, variant, tmp_path, request):
    benchmark, folder = sound[variant]
    todo = list(damages(folder))
    size = max(1, request.config.getoption("--fuzz-inputs") // EACH)
    step = max(1, len(todo) // size)
    verdicts = []
    for name, change in todo[::step]:
        copy = shutil.copytree(folder, tmp_path / "copy", symlinks=True)
        change(copy)
        found = verify_benchmark(KNOWN[benchmark], copy, decode=True, any_edition=True)
        assert_one_line(str(found))
        works = try_out(benchmark, copy, tmp_path / "answers.jsonl")
        assert found.is_whole == works, (name, str(found))
        verdicts.append(works)
        shutil.rmtree(copy)
    print(f"{variant}: {len(verdicts)} damaged folders of {len(todo)}, {sum(verdicts)} are sound")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_run_and_its_scores_of_what_verify_passes(sound, benchmark, tiny_flags, tmp_path):
    _, folder = sound[benchmark]
    assert verify_benchmark(KNOWN[benchmark], folder, decode=True, any_edition=True).is_whole
    data = ["--data-dir", str(folder), "--answers-file", str(tmp_path / "answers.jsonl")]
    quick = ["--visual-token-num", "4", "--batch-size", "16", "--no-compensation"]
    assert answer.main([benchmark, *tiny_flags, *data, *quick]) == 0
    assert score.main([benchmark, *data]) == 0


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_fixtures_that_verify_passes_are_answered_and_scored(
    shared_benchmarks, benchmark, tmp_path
):
    root = str(shared_benchmarks / "fixtures")
    folder = data_folder(benchmark, None, root)
    found = verify_benchmark(KNOWN[benchmark], folder, decode=True, any_edition=True)
    assert found.is_whole
    assert try_out(benchmark, folder, tmp_path / "answers.jsonl")

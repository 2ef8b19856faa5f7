"""What only a GPU can show; ``python -m pytest -m gpu`` runs it where there is one."""

from dataclasses import replace

import pytest
import torch

from llava.model.cuda import AsyncStopFlag
from llava.model.language_model import builder
from tests.model.test_llava_arch import is_default, same_as_recorded

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("error:.*without CUDA graphs")]
CUDA = torch.device("cuda:0")


@pytest.fixture(scope="module")
def load_gpu(load_tiny):
    return lambda **settings: load_tiny(device="cuda", **({"dtype": "float32"} | settings))


@pytest.fixture(scope="module")
def gpu_model(load_gpu):
    return load_gpu()


@pytest.fixture
def asked(golden):
    """The recorded cases with the default settings of the tower, and their samples."""
    cases = golden.json("accm_cases.json")
    return [(c, s) for c, s in zip(cases, golden.samples(cases)) if is_default(c)]


def texts(answers):
    """What may not differ between two ways to compute the same: tokens, captions, answers."""
    return [(a.kept_idx, a.compensation.candidates.ids, a.out_ids) for a in answers]


def test_recorded_cases_in_float32(gpu_model, asked):
    for case, sample in asked:
        for _ in range(3):  # the kernels, recorded as a graph, replayed
            (answer,) = gpu_model.answer([sample])
            same_as_recorded(answer, case)


def test_recorded_cases_in_one_batch(gpu_model, asked):
    for _ in range(3):
        answers = gpu_model.answer([sample for _, sample in asked])
        for answer, (case, _) in zip(answers, asked):
            same_as_recorded(answer, case)


def test_recorded_cases_without_graphs(load_gpu, asked):
    model = load_gpu(eager=True)
    for case, sample in asked:
        same_as_recorded(model.answer([sample])[0], case)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_replayed_graph_computes_what_its_kernels_computed(load_gpu, asked, dtype):
    model = load_gpu(dtype=dtype)
    samples = [sample for _, sample in asked]
    first, *others = ([model.answer([s])[0] for s in samples] for _ in range(3))
    for again in others:
        assert texts(again) == texts(first)
        for one, other in zip(first, again):
            assert torch.equal(one.first_logits, other.first_logits)


def test_reading_ahead_on_a_second_stream_changes_nothing(load_gpu, asked):
    model = load_gpu(eager=True)
    samples = [sample for _, sample in asked]
    found = []
    for model.reads_ahead in (False, True):
        found.append(texts(model.answer(samples)))
    assert found[0] == found[1]


def test_compiled_answers_are_the_same(load_gpu, gpu_model, asked):
    samples = [replace(sample, max_new_tokens=4) for _, sample in asked[:4]]
    compiled = load_gpu(compile=True)
    for _ in range(3):
        assert texts(compiled.answer(samples)) == texts(gpu_model.answer(samples))


def test_a_stop_that_is_heard_of_later_changes_no_answer(gpu_model, asked, monkeypatch):
    samples = [sample for _, sample in asked]
    expected = texts(gpu_model.answer(samples))

    def at_once(flag, device, lag=None):
        plain(flag, device, 0)

    plain = AsyncStopFlag.__init__
    monkeypatch.setattr(AsyncStopFlag, "__init__", at_once)
    assert texts(gpu_model.answer(samples)) == expected


def test_memory_is_given_back(gpu_model, asked):
    samples = [sample for _, sample in asked]
    for _ in range(3):
        gpu_model.answer(samples)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(CUDA)
    for _ in range(5):
        gpu_model.answer(samples)
    assert torch.cuda.memory_allocated(CUDA) == before


def test_an_llm_that_is_spread_answers_the_same(load_gpu, gpu_model, asked, monkeypatch):
    sizes = [p.nbytes for p in gpu_model.language_model.llm.parameters()]
    room = {0: int(sum(sizes) / builder.GPU_SHARE * 0.7), "cpu": 1 << 34}
    monkeypatch.setattr(builder, "get_max_memory", lambda: room)
    spread = load_gpu(device_map="auto")
    assert len(set(spread.language_model.llm.hf_device_map.values())) == 2
    samples = [sample for _, sample in asked[:4]]
    assert texts(spread.answer(samples)) == texts(gpu_model.answer(samples))

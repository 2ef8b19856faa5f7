"""CUDA graphs without a GPU: what is recorded is a call with inputs that keep their places."""

import pytest
import torch

from llava.errors import UserError
from llava.eval.bench.stock import StockLlava
from llava.model import cuda
from llava.model.cuda import CudaGraphs
from llava.model.kv_cache import DecodeSession, KVPrefix
from llava.model.language_model.fused import FusedAttention, fuse_llama
from llava.model.static_cache import MAX_BYTES, StaticSessions
from tests.model.test_llava_arch import is_default, same_as_recorded


class Recorded:
    """A graph on a CPU: it reads its own inputs, and returns the same memory each time."""

    made = 0

    def __init__(self, function, inputs, pool):
        type(self).made += 1
        self.function, self.inputs = function, [tensor.clone() for tensor in inputs]

    def replay(self, inputs):
        for own, given in zip(self.inputs, inputs):
            own.copy_(given)
        return self.function(*self.inputs)


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setitem(cuda.RECORDERS, "cpu", Recorded)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(Recorded, "made", 0)
    return Recorded


def test_a_kind_of_input_is_recorded_when_it_comes_again(recorded):
    calls = []
    graphs = CudaGraphs(lambda x: calls.append(x) or 2 * x)
    with torch.inference_mode():
        found = [graphs(torch.full((size,), number)) for number, size in enumerate((2, 3, 2, 2))]
    assert [each.tolist() for each in found] == [[0, 0], [2, 2, 2], [4, 4], [6, 6]]
    assert recorded.made == 1
    assert calls[2] is calls[3]  # its own input, filled with another value


def test_what_keeps_a_gpu_busy_is_not_recorded(recorded, monkeypatch):
    monkeypatch.setattr(cuda, "LARGEST_INPUT", 3)
    graphs = CudaGraphs(lambda x: 2 * x)
    with torch.inference_mode():
        for _ in range(3):
            graphs(torch.ones(4))
        assert recorded.made == 0


def test_training_records_nothing(recorded):
    graphs = CudaGraphs(lambda x: 2 * x)
    weight = torch.ones(2, requires_grad=True)
    for _ in range(3):
        assert graphs(weight).requires_grad
    assert recorded.made == 0


def test_recorded_cases_come_out_the_same_from_graphs(golden, load_tiny, recorded):
    cases = golden.json("accm_cases.json")
    model = load_tiny().use_cuda_graphs()
    other = load_tiny(patch_post_layernorm=False).use_cuda_graphs()
    for case, sample in zip(cases, golden.samples(cases)):
        (answer,) = (model if is_default(case) else other).answer([sample])
        same_as_recorded(answer, case)
    assert recorded.made > 20
    asked = [(c, s) for c, s in zip(cases, golden.samples(cases)) if is_default(c)]
    for _ in range(3):  # as they are, recorded, replayed
        answers = model.answer([sample for _, sample in asked])
        for answer, (case, _) in zip(answers, asked):
            same_as_recorded(answer, case)


def test_a_static_cache_reads_what_a_growing_one_reads(model):
    llm = model.language_model.llm
    embeds = torch.randn(2, 7, llm.config.hidden_size, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7])
    static = StaticSessions(llm)
    with torch.inference_mode():
        for _ in range(2):  # the second time in memory that was used before
            growing = DecodeSession(llm, llm.config, [KVPrefix()] * 2, embeds.device)
            session = static.begin([KVPrefix()] * 2, 9, embeds.device)
            for piece, there in ((embeds, mask), (embeds[:, :1], mask[:, -1:])):
                expected = growing.forward(piece, there)
                assert torch.allclose(session.forward(piece, there), expected, atol=1e-5)
            found, wanted = (s.prefix(0, slice(2, 8), KVPrefix()) for s in (session, growing))
            for own, other in zip(found.layers, wanted.layers):
                assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(own, other))


def test_what_is_not_a_number_in_one_batch_does_not_reach_the_next(model):
    llm = model.language_model.llm
    static = StaticSessions(llm)
    embeds = torch.ones(1, 4, llm.config.hidden_size)
    ones = torch.ones(1, 4)
    with torch.inference_mode():
        first = static.begin([KVPrefix()], 40, embeds.device).forward(embeds, ones).clone()
        long = torch.full((1, 30, llm.config.hidden_size), torch.nan)
        static.begin([KVPrefix()], 40, embeds.device).forward(long, torch.ones(1, 30))
        again = static.begin([KVPrefix()], 40, embeds.device).forward(embeds, ones)
    assert torch.equal(first, again)


def test_a_cache_that_is_too_large_is_left_to_the_one_that_grows(model):
    llm = model.language_model.llm
    static = StaticSessions(llm)
    per_column = static.begin([KVPrefix()], 64, torch.device("cpu")).nbytes // 64
    assert static.begin([KVPrefix()], 2 * MAX_BYTES // per_column, torch.device("cpu")) is None


def test_recorded_cases_come_out_the_same_from_fused_layers(golden, load_tiny, recorded):
    model = load_tiny().use_cuda_graphs()
    names = list(model.state_dict())
    fuse_llama(model.language_model.llm)
    assert sum(isinstance(m, FusedAttention) for m in model.modules()) > 1
    assert list(model.state_dict()) == names
    cases = golden.json("accm_cases.json")
    asked = [(c, s) for c, s in zip(cases, golden.samples(cases)) if is_default(c)]
    for case, sample in asked:
        same_as_recorded(model.answer([sample])[0], case)


def test_a_fused_llama_reads_as_transformers_does(load_tiny):
    llm, fused = (load_tiny().language_model.llm for _ in range(2))
    fuse_llama(fused)
    ids = torch.randint(3, 30, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mask in (None, torch.tensor([[0, 0] + [1] * 7, [1] * 9])):
            expected = llm(ids, attention_mask=mask).logits
            found = fused(ids, attention_mask=mask).logits
            assert torch.allclose(found[:, 2:], expected[:, 2:], atol=1e-5)


def test_transformers_llava_keeps_its_own_layers(load_tiny):
    """The stock model of the bench shares weights with a fused one, and none of its shortcuts."""
    model = load_tiny()
    plain = StockLlava(model, graphs=False).llava.model.language_model
    ids = torch.randint(3, 30, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = plain(ids).last_hidden_state
        fuse_llama(model.language_model.llm)
        stock = StockLlava(model, graphs=False).llava.model.language_model
        assert not any(type(m).__name__.startswith("Fused") for m in stock.modules())
        assert torch.equal(stock(ids).last_hidden_state, expected)


def test_what_cannot_be_recorded_is_run_as_it_is(monkeypatch):
    def refuse(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setitem(cuda.RECORDERS, "cpu", refuse)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    graphs = CudaGraphs(torch.neg)
    with torch.inference_mode():
        graphs(torch.ones(1))
        with pytest.warns(UserWarning, match="without CUDA graphs: operation not permitted"):
            found = [graphs(torch.ones(1)) for _ in range(3)]
    assert found == [torch.tensor([-1.0])] * 3


def test_eager_is_refused_where_there_are_no_graphs(load_tiny):
    with pytest.raises(UserError, match="--eager has no effect on cpu"):
        load_tiny(eager=True)

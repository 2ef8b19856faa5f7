"""The LLM layer by layer: with nothing dropped, transformers' own; dropped is as never seen."""

import pytest
import torch

from llava.mm_utils import pad_left
from llava.model.kv_cache import DecodeSession, KVPrefix
from llava.model.language_model.layerwise import LayerInput, LayerwiseLlama


@pytest.fixture(scope="module")
def llm(model):
    return model.language_model.llm


def pieces(llm, lengths, seed=0):
    draw = torch.Generator().manual_seed(seed)
    width = llm.config.hidden_size
    return [0.02 * torch.randn(length, width, generator=draw) for length in lengths]


def test_nothing_dropped_is_stock_for_a_padded_batch_and_for_cached_steps(llm):
    first, steps = pieces(llm, (7, 12, 3)), pieces(llm, (1, 1, 1), seed=1)
    start = [KVPrefix()] * 3
    sessions = [
        DecodeSession(forward, llm.config, start, torch.device("cpu"))
        for forward in (llm, LayerwiseLlama(llm))
    ]
    for batch in (pad_left(first), (torch.stack(steps), torch.ones(3, 1))):
        stock, ours = (session.forward(*batch) for session in sessions)
        torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


def test_a_dropped_token_is_one_that_nobody_looks_at_from_its_layer_on(llm):
    (embeds,) = pieces(llm, (9,))
    length, dropped, layer = 9, [2, 3, 6], 1
    kept = torch.tensor([[i for i in range(length) if i not in dropped]])
    causal = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    columns = torch.ones(length, dtype=torch.bool)
    columns[dropped] = False
    # Padding and dropped tokens still see themselves: a row that is all False would give NaN.
    unseen = causal & (columns | torch.eye(length, dtype=torch.bool))

    def drop(number, state):
        return state.select(kept) if number == layer else state

    def hide(number, state):
        if number < layer:
            return state
        return LayerInput(state.hidden, state.position_ids, unseen)

    with torch.inference_mode():
        ours, wanted, whole = (
            LayerwiseLlama(llm, between)(embeds[None], causal, torch.arange(length)[None]).logits
            for between in (drop, hide, None)
        )
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, whole, atol=1e-5)

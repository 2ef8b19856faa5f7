"""The LLM layer by layer: with nothing dropped, transformers' own; dropped is as never seen."""

from dataclasses import replace

import pytest
import torch

from llava.mm_utils import pad_left
from llava.model.kv_cache import DecodeSession, KVPrefix
from llava.model.language_model.layerwise import LayerwiseLlama


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


def test_a_key_bias_of_ln_2_counts_a_token_twice_as_if_it_stood_there_twice(llm):
    (embeds,) = pieces(llm, (6,))
    twice = torch.cat([embeds[:3], embeds[2:]])  # the third token stands there twice
    bias = torch.tensor([[0, 0, 2.0, 1, 1, 1]]).log().nan_to_num(neginf=0)

    def read(states, positions, key_bias=None):
        count = len(states)
        causal = torch.ones(1, 1, count, count, dtype=torch.bool).tril()
        if count == 7:  # the biased one attends to itself twice, and so do its copies
            causal[..., 2, 3] = True
        give = None if key_bias is None else (lambda _, state: replace(state, key_bias=key_bias))
        forward = LayerwiseLlama(llm, give)
        return forward(states[None], causal, torch.tensor([positions])).logits

    with torch.inference_mode():
        biased = read(embeds, [0, 1, 2, 3, 4, 5], bias)
        doubled = read(twice, [0, 1, 2, 2, 3, 4, 5])
        plain = read(embeds, [0, 1, 2, 3, 4, 5], torch.zeros_like(bias))
        stock = read(embeds, [0, 1, 2, 3, 4, 5])
    torch.testing.assert_close(plain, stock, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(biased, stock, atol=1e-5)
    torch.testing.assert_close(biased, doubled, rtol=1e-5, atol=1e-5)

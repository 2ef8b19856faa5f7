"""A batch of sequences that is read piece by piece."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from llava.model.kv_cache import DecodeSession, KVPrefix


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    sizes = dict(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=32)
    return GPT2LMHeadModel(GPT2Config(**sizes)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pieces():
    return torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(1))


def read(gpt, embeds, *more):
    """Reads pieces, the last of which gives the logits."""
    session = DecodeSession(gpt, gpt.config, [KVPrefix()] * len(embeds), embeds.device)
    for piece in (embeds, *more):
        logits = session.forward(piece, torch.ones(piece.shape[:2]))
    return session, logits


def test_sequences_go_on_as_if_each_had_been_read_alone(gpt, pieces):
    """However often they are reordered between two pieces."""
    start, middle, end = pieces[:, :5], pieces[:, 5:7], pieces[:, 7:]
    session, _ = read(gpt, start)
    session.select(torch.tensor([1, 0]))
    session.select(torch.tensor([0, 0, 1]))  # rows 1, 1 and 0 of the start
    session.forward(middle[[0, 1, 0]], torch.ones(3, 2))
    session.select(torch.tensor([2, 1]))
    found = session.forward(end, torch.ones(2, 5))
    rows = torch.cat([start[[0, 1]], middle[[0, 1]], end], dim=1)
    wanted = gpt(inputs_embeds=rows).logits[:, -1]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert len(session) == 2 and session.filled == 12


def test_a_prefix_is_of_the_rows_that_were_selected(gpt, pieces):
    session, _ = read(gpt, pieces)
    wanted = session.prefix(1, slice(None), KVPrefix())
    session.select(torch.tensor([1, 1, 0]))
    for row in (0, 1):
        found = session.prefix(row, slice(None), KVPrefix())
        for layer, other in zip(found.layers, wanted.layers):
            assert layer[0].equal(other[0]) and layer[1].equal(other[1])
    behind = DecodeSession(gpt, gpt.config, [found], pieces.device)
    assert behind.filled == 12 and len(behind) == 1


def test_rows_that_begin_with_a_prefix_can_be_selected(gpt, pieces):
    prefix = read(gpt, pieces[:1])[0].prefix(0, slice(None), KVPrefix())
    session = DecodeSession(gpt, gpt.config, [prefix, prefix], pieces.device)
    session.select(torch.tensor([0]))
    more = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(2))
    found = session.forward(more, torch.ones(1, 1))
    wanted = gpt(inputs_embeds=torch.cat([pieces[:1], more], dim=1)).logits[:, -1]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)

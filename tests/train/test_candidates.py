"""Candidate captions: drawn for each sample alone, cut off where they should be."""

import pytest
import torch

from llava.mm_utils import pad_left
from llava.model.compensation.beam_search import _truncate, greedy_search, sample_search
from llava.model.compensation.supplement import PrunedSample, TextQuery
from llava.model.multimodal_encoder.visual_tokens import VisualTokens
from llava.model.token_pruning.pruner import Pruned
from llava.train.candidates import write_candidates
from llava.train.stages.arguments import KINDS

QUESTIONS = ["Is there a dog?", "What color is the cat that sits on the road?", "Where is it?"]
STOP = 13  # "." in the tiny GPT-2


@pytest.fixture(scope="module")
def parts(model):
    return model.compensator.caption_model, model.compensator.tokenizer


@pytest.fixture(scope="module")
def dropped(model):
    width = model.tower.clip.config.projection_dim
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, width, generator=generator) for count in (40, 3, 17)]


def write(parts, dropped, questions=QUESTIONS, kind="sampled", seeds=(5, 6, 7)):
    return write_candidates(*parts, dropped, questions, kind, seeds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_samples_candidates_do_not_depend_on_the_others(parts, dropped, kind):
    together = write(parts, dropped, kind=kind)
    for b, found in enumerate(together):
        (alone,) = write(parts, [dropped[b]], [QUESTIONS[b]], kind, [5 + b])
        assert alone == found
        assert len(found.captions) == len(found.ids) == 3
    assert len({tuple(found.captions) for found in together}) == 3


def test_seeds_decide_what_is_drawn(parts, dropped):
    first, again = write(parts, dropped), write(parts, dropped)
    assert first == again
    for one, other in zip(first, write(parts, dropped, seeds=(8, 9, 10))):
        assert one.ids[0] != other.ids[0] and one.ids[1] != other.ids[1]
        assert one.ids[2] == other.ids[2]  # greedy: nothing is drawn
    assert all(found.ids[0] != found.ids[1] for found in first)


def test_beams_are_the_compensators(model, parts, dropped):
    images = [VisualTokens(tokens, patch_embeds=tokens) for tokens in dropped]
    samples = [
        PrunedSample(image, Pruned(len(image.features), torch.arange(0), ()), TextQuery(text, text))
        for image, text in zip(images, QUESTIONS)
    ]
    compensations = model.compensator(samples)
    for found, expected in zip(write(parts, dropped, kind="beam"), compensations, strict=True):
        assert found.ids == expected.candidates.ids
        assert found.captions == expected.captions


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_off_while_writing_and_on_again_after_it(parts, dropped, kind):
    model, _ = parts
    quiet = write(parts, dropped, kind=kind)
    model.train()
    try:
        assert model.gpt.transformer.drop.p > 0
        assert write(parts, dropped, kind=kind) == quiet
        assert model.gpt.training
    finally:
        model.eval()


def test_truncation_by_hand():
    probs = torch.tensor([[0.15, 0.5, 0.05, 0.3], [0.25, 0.25, 0.2, 0.3]])

    def allowed(**settings):
        kept = _truncate(probs.log(), **({"top_k": None, "top_p": None} | settings))
        assert torch.equal(kept[kept.isfinite()], probs.log()[kept.isfinite()])
        return [row.isfinite().nonzero()[:, 0].tolist() for row in kept]

    assert allowed() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert allowed(top_k=2) == [[1, 3], [0, 3]]
    assert allowed(top_p=0.6) == [[1, 3], [0, 1, 3]]  # the one that passes the mark is in
    assert allowed(top_p=0.4) == [[1], [0, 3]]
    assert allowed(top_p=0.9, top_k=1) == [[1], [3]]


@pytest.mark.parametrize("settings", [dict(top_k=1), dict(top_p=1e-6)])
@torch.no_grad()
def test_a_choice_of_one_is_greedy(parts, settings):
    gpt = parts[0].gpt
    rows = [gpt.transformer.wte(torch.arange(first, first + 8)) for first in (300, 310, 440)]
    inputs = (gpt, *pad_left([rows[0], rows[1][:5], rows[2]]), STOP)
    generators = [torch.Generator().manual_seed(b) for b in range(3)]
    found = sample_search(*inputs, generators, max_length=12, **settings)
    assert found == greedy_search(*inputs, max_length=12)
    assert all(len(ids) <= 12 and STOP not in ids[:-1] for ids in found)

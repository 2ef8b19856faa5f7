"""CLIP beside Qwen2.5-VL's tower: places, choices and captions by them."""

import re
from dataclasses import replace

import pytest
import torch

from llava.arguments import AskArguments
from llava.errors import UserError
from llava.eval.benchmarks.question import Question
from llava.eval.caches import Shared
from llava.eval.run import Run, run_settings
from llava.model.compensation.supplement import PrunedSample, TextQuery
from llava.model.multimodal_encoder.qwen_tower import GIVEN
from llava.model.multimodal_encoder.side_tower import places
from llava.model.multimodal_encoder.visual_tokens import View
from llava.model.sample import Sample
from llava.model.token_pruning.pruner import Pruned
from llava.model.token_pruning.registry import PRUNERS
from tests.conftest import ROOT
from tests.helpers.tiny_qwen import (
    QUESTION,
    drawn,
    full,
    sample_of,
)


def test_places_of_clip_s_patches_and_of_tokens():
    """A wide image of 4 x 2 tokens in a square of 4 x 4 patches, whose outer rows are padding."""
    token_idx, patch_idx = places(View(0, 2, 4), View(0, 4, 4), (100, 200))
    assert token_idx.tolist() == [-1] * 4 + [0, 1, 2, 3] + [4, 5, 6, 7] + [-1] * 4
    assert patch_idx.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    # A tall image of 3 x 1 tokens, in the second of four columns.
    token_idx, patch_idx = places(View(0, 3, 1), View(0, 4, 4), (300, 75))
    assert patch_idx.tolist() == [1, 9, 13]
    assert token_idx.view(4, 4).T.tolist() == [[-1] * 4, [0, 1, 1, 2], [-1] * 4, [-1] * 4]
    # As many patches as tokens: the same places.
    token_idx, patch_idx = places(View(0, 3, 3), View(0, 3, 3), (90, 90))
    assert token_idx.tolist() == patch_idx.tolist() == list(range(9))


def test_accm_chooses_by_clip_s_scores_at_the_same_places(beside):
    sample = sample_of((300, 200), pruner="accm", visual_token_num=9)
    answer = beside.answer([sample])[0]
    assert len(answer.kept_idx) == 9 and answer.selection.num_patches == 54
    assert "side tower" in answer.seconds and answer.seconds["side tower"] > 0
    (encoded,) = beside.encode([sample])
    image, side = encoded.image, beside.backbone.side
    (seen,) = side.clip(side.preprocess(sample.image)[None])
    assert torch.allclose(image.patch_embeds, seen.patch_embeds[image.patch_idx], atol=1e-5)
    assert torch.allclose(image.cls_attention, seen.cls_attention[image.patch_idx], atol=1e-6)
    plain = beside.answer([full((300, 200))])[0]
    assert "side tower" not in plain.seconds


def test_captions_are_written_of_the_clip_patches_at_dropped_places(beside):
    samples = [
        sample_of(size, seed=n, pruner="fastervlm", visual_token_num=5)
        for n, size in enumerate([(300, 200), (100, 400)])
    ]
    answers = beside.answer(samples)
    for sample, answer in zip(samples, answers):
        (alone,) = beside.answer([sample])
        assert alone.out_ids == answer.out_ids and alone.written.captions == answer.written.captions
        caption = answer.supplement.text
        text = beside.language_model.tokenizer.decode([i for i in answer.input_ids if i >= 0])
        assert caption.strip() in text and text.index(caption.strip()) < text.index(QUESTION)
    (encoded,) = beside.encode(samples[:1])
    (pruned,) = beside.prune([encoded], samples[:1])
    read = PrunedSample(encoded.image, pruned, samples[0].text_query)
    kept = set(pruned.kept_idx.tolist())
    expected = [i for i, place in enumerate(encoded.image.side_idx.tolist()) if place >= 0]
    expected = [i for i in expected if encoded.image.side_idx[i].item() not in kept]
    assert torch.equal(read.dropped, encoded.image.side_embeds[expected])
    assert 0 < len(expected) < len(encoded.image.side_embeds)


def test_a_drop_that_is_smaller_than_a_clip_patch_is_described_too(beside):
    image = drawn(224, 224)
    (encoded,) = beside.encode([Sample(image, QUESTION, pruner="fastervlm", visual_token_num=63)])
    image = replace(encoded.image, side_idx=torch.full_like(encoded.image.side_idx, -1))
    pruned = Pruned(64, torch.arange(1, 64), ("",) * 63)
    read = PrunedSample(image, pruned, TextQuery(QUESTION, QUESTION))
    assert torch.equal(read.dropped, image.side_embeds[image.patch_idx[:1]])


def test_pruners_of_clip_s_space_work_beside_it(beside):
    for pruner in ("trim", "cdpruner"):
        answer = beside.answer([sample_of((300, 200), pruner=pruner, visual_token_num=7)])[0]
        assert len(answer.kept_idx) == 7


def test_pruners_say_what_the_model_does_not_have(qwen):
    with pytest.raises(UserError, match="accm reads CLIP's space.*--side-tower.*fastervlm"):
        qwen.answer([sample_of((300, 200), pruner="accm", visual_token_num=9)])
    for pruner in ("visionzip", "prunesid", "prumerge"):
        with pytest.raises(UserError, match=f"{pruner} reads a CLS token.*fastervlm"):
            qwen.answer([sample_of((300, 200), pruner=pruner, visual_token_num=9)])


def test_the_page_of_methods_says_which_pruners_work(qwen, beside):
    page = (ROOT / "docs" / "methods.md").read_text("utf-8")
    rows = page.split("## On Qwen2.5-VL")[1].split("## Controls")[0].splitlines()
    free, attended, by_clip, refused = (
        set(re.findall(r"`(\w+)`", row.split("|")[3])) for row in rows if "| `" in row
    )
    given = qwen.backbone.gives
    works = {name for name, pruner in PRUNERS.items() if not pruner.needs & ~given}
    with_clip = {name for name, p in PRUNERS.items() if not p.needs & ~beside.backbone.gives}
    assert works == free | attended and with_clip - works == by_clip
    assert set(PRUNERS) - with_clip == refused
    assert {name for name in works if PRUNERS[name].needs & GIVEN} == attended


def test_the_settings_of_a_run_have_the_side_tower(qwen_folder, checkpoints, tmp_path):
    question = Question("q", 1, tmp_path / "p.png", "What?", "What?", 4)
    run = Run("mme", [question], None, tmp_path / "a", "m")

    def settings(**how):
        model = dict(model_path=str(qwen_folder), device="cpu", compensation="none")
        args = AskArguments(**model, visual_token_num=5, pruner="accm", **how)
        return run_settings(run, args, Shared(compensation=False))["checkpoints"]

    clip = str(checkpoints / "clip-vit-tiny-patch14-336")
    beside = settings(side_tower=clip)
    assert beside.keys() == {"model", "side_tower"}
    assert settings() == {"model": beside["model"]}

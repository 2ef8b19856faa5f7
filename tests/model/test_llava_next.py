"""LLaVA-NeXT with random weights: the same as transformers without pruning, and pruned by views."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaNextConfig, LlavaNextModel

from llava.arguments import AskArguments, ModelArguments
from llava.constants import IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.eval import trace
from llava.eval.benchmarks.question import Question
from llava.eval.caches import Shared
from llava.eval.run import Run, run_settings
from llava.method import VIEW_SPLITS
from llava.model.backbones.tiles import layout_of, newline_places, with_newlines
from llava.model.builder import load_from_arguments
from llava.model.compensation.supplement import PrunedSample, Supplement
from llava.model.memory import Memory
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, fields_of
from llava.model.sample import Sample
from llava.model.token_pruning.hiprune import HiPruneOptions, hiprune
from llava.model.token_pruning.mustdrop import MustDropOptions, window_sides
from llava.model.token_pruning.pruner import CLS
from llava.model.token_pruning.registry import PRUNERS
from llava.model.token_pruning.views import split_budget
from tests.helpers.tiny_next import SIDE, WORDS, tiny_next

BEFORE_LLM = [
    name for name, one in PRUNERS.items() if one.layers is None and name not in ("none", "zero")
]
# Widths and heights from 1:4 to 4:1, and beyond: tiny, large, odd, of the resolutions themselves,
# and so narrow that nothing but padding is left of the tiles.
SIZES = [
    (40, 160), (160, 40), (84, 84), (10, 10), (301, 77), (77, 301), (500, 333), (1, 3), (3, 400),
    (400, 3), (1000, 1000), (85, 84), (168, 168), (252, 84), (83, 251), (640, 480), (480, 640),
    (2, 2), (97, 131), (1600, 400),
]  # fmt: skip
REAL_RESOLUTIONS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    return [
        Image.fromarray(draw.integers(0, 255, (height, width, 3), dtype=np.uint8))
        for width, height in SIZES
    ]


@pytest.fixture(scope="module")
def vicuna(tmp_path_factory, checkpoints):
    return tiny_next(tmp_path_factory.mktemp("vicuna"), checkpoints / "llava-v1.5-tiny")


@pytest.fixture(scope="module")
def mistral(tmp_path_factory, checkpoints):
    folder = tmp_path_factory.mktemp("mistral")
    return tiny_next(folder, checkpoints / "llava-v1.5-tiny", "mistral")


@pytest.fixture(scope="module", params=["vicuna", "mistral"])
def tiny(request):
    return request.getfixturevalue(request.param)


def load(folder, clip, **settings):
    settings = dict(compensation="none", device="cpu") | settings
    return load_from_arguments(
        ModelArguments(model_path=str(folder), vision_tower=str(clip), **settings)
    )


@pytest.fixture(scope="module")
def next_model(tiny):
    return load(tiny.nested, tiny.clip)


@pytest.fixture(scope="module")
def on_vicuna(vicuna):
    return load(vicuna.nested, vicuna.clip)


def ask(picture, **how):
    return Sample(picture, "What is in the picture?", **(dict(max_new_tokens=4) | how))


def stock_answer(tiny, picture, ids, max_new_tokens):
    """First logits and greedy answer of transformers, for prompt ids with a placeholder."""
    given = dict(tiny.processor(picture, return_tensors="pt"))
    (features,) = tiny.stock.get_image_features(**given).pooler_output
    place = ids.index(IMAGE_TOKEN_INDEX)
    whole = ids[:place] + [WORDS - 1] * len(features) + ids[place + 1 :]
    given |= {"input_ids": torch.tensor([whole])}
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    logits = tiny.stock(**given).logits[0, -1]
    out = tiny.stock.generate(
        **given, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0
    )
    return logits, out[0, len(whole) :].tolist(), len(whole)


def test_all_tokens_are_those_of_transformers_alone_and_in_a_batch(tiny, next_model, pictures):
    if tiny.stock.config.text_config.model_type == "mistral":
        pictures = pictures[4:9]
    together = next_model.answer([ask(picture, pruner="none") for picture in pictures])
    for picture, in_batch in zip(pictures, together):
        (alone,) = next_model.answer([ask(picture, pruner="none")])
        logits, ids, length = stock_answer(tiny, picture, alone.input_ids, 4)
        torch.testing.assert_close(alone.first_logits, logits, rtol=0, atol=1e-4)
        torch.testing.assert_close(in_batch.first_logits, logits, rtol=0, atol=1e-4)
        assert alone.out_ids == in_batch.out_ids == ids
        assert alone.input_length == in_batch.input_length == length
        assert len(alone.kept_idx) == next_model.count_tokens(picture)
    first, other = together[0].first_logits, together[1].first_logits
    assert not torch.allclose(first, other, rtol=0, atol=0.01)  # the image is read


def test_the_layout_of_the_authors_gives_the_same(tiny, next_model, pictures):
    flat = load(tiny.flat, tiny.clip)
    asked = [ask(p, visual_token_num=30) for p in pictures[:3]] + [ask(pictures[4], pruner="none")]
    for one, other in zip(next_model.answer(asked), flat.answer(asked)):
        assert torch.equal(one.first_logits, other.first_logits)
        assert one.input_ids == other.input_ids and one.out_ids == other.out_ids


def test_pixels_are_those_of_transformers(tiny, next_model, pictures):
    for picture, made in zip(pictures, next_model.preprocess(pictures)):
        (values,) = tiny.processor(picture, return_tensors="pt")["pixel_values"]
        assert torch.equal(made.values, values)


def test_tokens_and_newlines_of_real_sizes_are_packed_as_in_transformers():
    """At 24 x 24 patches a view, with numbers in place of features."""
    draw = np.random.default_rng(1)
    sizes = [tuple(pair) for pair in draw.integers(1, 3000, (60, 2)).tolist()]
    sizes += [(336, 336), (1, 1), (672, 672), (1008, 336), (7, 3000), (3000, 7), (9000, 1)]
    packer = type("Packer", (), {"config": LlavaNextConfig()})()
    newline = torch.tensor([-1.0])
    for size in sizes:
        layout = layout_of(size, REAL_RESOLUTIONS, 336, 24)
        views = 1 + layout.rows * layout.columns
        numbers = torch.arange(views * 576.0).view(views, 576, 1)
        (packed,), _ = LlavaNextModel.pack_image_features(
            packer, [numbers], [size], "default", newline
        )
        every = torch.arange(layout.num_tokens)
        ours = with_newlines(numbers.view(-1, 1)[layout.order], every, layout, newline)
        assert torch.equal(ours, packed), size
        of_views = torch.cat([view.idx for view in layout.views])
        assert torch.equal(of_views.sort().values, every)


def test_by_hand_the_newlines_of_kept_tokens():
    layout = layout_of((10, 20), [(4, 8)], 4, 2)  # base 2 x 2, tiles 2 x 4
    assert [view.idx.tolist() for view in layout.views] == [
        [0, 1, 2, 3],
        [4, 5, 8, 9],
        [6, 7, 10, 11],
    ]
    assert newline_places(torch.arange(12), layout) == [8, 12]
    assert newline_places(torch.tensor([0, 5, 7]), layout) == [3]  # none for the lower row
    assert newline_places(torch.tensor([9, 0, 4, 11]), layout) == [3, 4]  # in the order of reading
    assert newline_places(torch.tensor([2, CLS]), layout) == []
    tokens = with_newlines(
        torch.tensor([[1.0], [2.0]]), torch.tensor([3, 10]), layout, torch.tensor([0.0])
    )
    assert tokens.flatten().tolist() == [1, 2, 0]


def test_by_hand_a_budget_is_spread_over_views():
    views = layout_of((10, 20), [(4, 8)], 4, 2).views
    for budget, proportional, base_first in [
        (12, [4, 4, 4], [4, 4, 4]),
        (7, [3, 2, 2], [4, 2, 1]),
        (2, [1, 1, 0], [2, 0, 0]),
        (1, [1, 0, 0], [1, 0, 0]),
    ]:
        assert [k for _, k in split_budget(views, budget, "proportional")] == proportional
        assert [k for _, k in split_budget(views, budget, "base-first")] == base_first


def test_by_hand_grids_that_are_not_square():
    for budget, sides, windows in [
        (2, (6, 5), (3, 5)),  # 5 has no divisor from 3 on but itself
        (1, (6, 5), (6, 5)),
        (9, (2, 9), (2, 3)),  # a side shorter than the window is taken whole
        (2, (6, 6), (6, 6)),  # square windows in a square
    ]:
        assert window_sides(budget, sides, MustDropOptions()) == windows
    attention = torch.tensor([[0.0, 0.9, 0.1, 0.2, 0.1, 0.3, 0.15]])
    x = {name: attention for name in ("attn_mean_mid", "attn_mean_deep")}
    for sides, kept in (((3, 2), [0, 1, 2, 4, 5]), ((2, 3), [0, 1, 2, 3, 4])):
        # Patch 0 with its right and lower neighbours, and the two largest of the others.
        (choice,) = hiprune(x | {"grid": torch.tensor([sides])}, 5, HiPruneOptions(alpha=1))
        assert choice.kept.tolist() == kept


@pytest.mark.parametrize("split", [None, "proportional", "base-first"])
def test_every_budget_is_met_by_every_pruner_alone_and_in_a_batch(on_vicuna, pictures, split):
    """In one grid and over views of any shape; what is beside it in a batch changes nothing."""
    asked = [
        ask(picture, pruner=name, visual_token_num=k, view_split=split, max_new_tokens=1)
        for number, name in enumerate(BEFORE_LLM)
        for picture, k in zip(pictures[number % 4 :: 4], (1, 5, 29, 34))
    ]
    together = on_vicuna.answer(asked)
    for number, (sample, answer) in enumerate(zip(asked, together)):
        count, kept = sample.visual_token_num, answer.kept_idx
        assert len(kept) == len(answer.pruned.reasons) == count, sample.pruner
        patches = [idx for idx in kept if idx != CLS]
        assert len(set(patches)) == len(patches) >= count - 1
        assert set(patches) | set(answer.pruned.dropped_idx.tolist()) == set(
            range(on_vicuna.count_tokens(sample.image))
        )
        (_, base), *tiles = answer.view_counts
        assert base + sum(k for _, k in tiles) == len(patches)
        if split == "base-first" and len(answer.views) > 1:
            assert base + (CLS in kept) == min(count, SIDE**2)
        if number % 5 == 0:
            (alone,) = on_vicuna.answer([sample])
            assert alone.kept_idx == kept and alone.out_ids == answer.out_ids
            torch.testing.assert_close(alone.first_logits, answer.first_logits, rtol=0, atol=1e-4)


def test_newlines_follow_rows_of_which_tokens_are_kept(on_vicuna, pictures):
    for picture in (pictures[0], pictures[6], pictures[8]):
        layout = on_vicuna.backbone.layout(picture)
        for k in (1, 9, 35):
            (answer,) = on_vicuna.answer([ask(picture, pruner="random", visual_token_num=k)])
            rows = {(i - SIDE**2) // layout.width for i in answer.kept_idx if i >= SIDE**2}
            assert answer.num_separators == len(rows)
            assert answer.input_length == len(answer.input_ids) - 1 + k + len(rows)
            assert on_vicuna.prompt_length(ask(picture, visual_token_num=k)) >= answer.input_length


def test_kept_tokens_are_the_ones_of_their_places(on_vicuna, pictures):
    """What the LLM reads is transformers' sequence without the tokens that were dropped."""
    picture = pictures[6]
    backbone = on_vicuna.backbone
    layout = backbone.layout(picture)
    (encoded,) = on_vicuna.encode([ask(picture, pruner="none")])
    with torch.inference_mode():
        tokens = backbone.language_model.project(encoded.image.features)
        every = torch.arange(len(tokens))
        whole = backbone.arrange(tokens, every, encoded.image)
        ends = newline_places(every, layout)
        sample = ask(picture, pruner="uniform", visual_token_num=40)
        (prompt,) = on_vicuna.prompts([sample])
        (pruned,) = on_vicuna.prune(on_vicuna.encode([sample]), [sample])
    kept = pruned.kept_idx
    rows = {int(row) for row in (kept - layout.base).div(layout.width, rounding_mode="floor")}
    places = [int(i) + sum(end <= i for end in ends) for i in kept]
    places += [end + number for number, end in enumerate(ends) if number in rows]
    visible = prompt.embeds[prompt.system_length : prompt.image_end]
    torch.testing.assert_close(visible, whole[sorted(places)])


def test_the_records_of_an_answer_count_views_and_newlines(on_vicuna, pictures):
    (answer,) = on_vicuna.answer([ask(pictures[13], visual_token_num=20, view_split="base-first")])
    record = answer.views_record
    assert [(v["rows"], v["columns"], v["tokens"]) for v in record["views"]] == [(6, 6, 36)] * 4
    assert [v["kept"] for v in record["views"]] == [20, 0, 0, 0] and record["newline_tokens"] == 0
    (answer,) = on_vicuna.answer([ask(pictures[13], pruner="none")])
    assert answer.views_record["newline_tokens"] == 6


def test_captions_describe_the_dropped_tokens_of_the_base_view(on_vicuna, pictures):
    sample = ask(pictures[6], pruner="uniform", visual_token_num=50)
    (one,) = on_vicuna.encode([replace(sample, pruner="accm")])
    for split, of_base in ((None, True), ("base-first", False)):
        asked = replace(sample, view_split=split)
        (pruned,) = on_vicuna.prune([one], [asked])
        read = PrunedSample(one.image, pruned, sample.text_query)
        idx = pruned.dropped_idx
        wanted = idx[idx < SIDE**2] if of_base else idx
        assert torch.equal(read.dropped, one.image.patch_embeds[wanted]) and len(wanted)
        assert torch.equal(read.whole, one.image.patch_embeds[: SIDE**2])


def test_accm_s_own_weights_write_captions(vicuna, tiny_settings, pictures):
    """The caption model and the selector of the tiny LLaVA-1.5, whose CLIP is as wide."""
    parts = {name: tiny_settings[name] for name in ("gpt2", "checkpoints_root")}
    captioning = load(vicuna.nested, vicuna.clip, compensation="caption+selector", **parts)
    asked = [ask(picture, visual_token_num=30) for picture in pictures[4:8]]
    together = captioning.answer(asked)
    for sample, answer in zip(asked, together):
        (alone,) = captioning.answer([sample])
        assert len(answer.kept_idx) == 30 and answer.written.captions
        assert answer.written.captions == alone.written.captions
        assert answer.input_ids == alone.input_ids and answer.kept_idx == alone.kept_idx
        assert answer.input_length <= captioning.prompt_length(sample)
        assert len(answer.input_ids) > len(captioning.backbone.prompt_ids(sample, Supplement(), 0))


def test_an_image_is_encoded_as_alone_in_half_precision_too(vicuna, pictures):
    half = load(vicuna.nested, vicuna.clip, dtype="bfloat16")
    pixels = half.preprocess(pictures[4:8])
    for needs in (OF_IMAGE, Needs.KEYS | Needs.PROJECTED):
        for one, made in zip(pixels, half.encode_images(pixels, needs)):
            (alone,) = half.encode_images([one], needs)
            for name in ("features", *fields_of(needs)):
                assert torch.equal(getattr(alone, name), getattr(made, name)), name


def test_the_newline_is_no_token_of_the_budget(on_vicuna, pictures):
    small, large = pictures[9], pictures[10]  # nothing but the base view, and all tiles
    assert on_vicuna.count_tokens(small) == SIDE**2
    assert on_vicuna.count_tokens(large) == on_vicuna.count_tokens() == 5 * SIDE**2


def test_a_budget_above_the_tokens_of_a_small_image_prunes_nothing(on_vicuna, pictures):
    small, large = pictures[9], pictures[10]
    for pruner in ("accm", "pool"):
        asked = [ask(p, visual_token_num=100, pruner=pruner) for p in (small, large)]
        whole, some = on_vicuna.answer(asked)
        assert whole.pruned is None and len(whole.kept_idx) == on_vicuna.count_tokens(small)
        assert len(some.kept_idx) == 100 and sum(k for _, k in some.view_counts) == 100


def test_a_share_is_of_the_tokens_of_each_image(on_vicuna, pictures):
    for answer in on_vicuna.answer([ask(p, visual_token_num="1/4") for p in pictures[8:14]]):
        whole = sum(size for size, _ in answer.view_counts)
        assert len(answer.kept_idx) == (2 * whole + 4) // 8  # rounded, halves up


def test_a_command_records_the_views(vicuna, pictures, tmp_path, capsys):
    pictures[6].save(tmp_path / "picture.png")
    words = dict(
        model_path=vicuna.nested, vision_tower=vicuna.clip, compensation="none", device="cpu",
        image=tmp_path / "picture.png", question="What?", max_new_tokens=2, visual_token_num=20,
        pruner="random", view_split="proportional", figure=tmp_path / "figure.png",
    )  # fmt: skip
    flags = [w for name, value in words.items() for w in (f"--{name.replace('_', '-')}", value)]
    assert trace.main([str(word) for word in flags]) == 0
    record = json.loads(capsys.readouterr().out)
    assert sum(view["kept"] for view in record["views"]) == len(record["kept_idx"]) == 20
    assert record["newline_tokens"] >= 1 and (tmp_path / "figure.png").is_file()


def test_the_settings_of_a_run_have_the_split(vicuna, tmp_path):
    run = Run(
        "mme",
        [Question("q", 1, tmp_path / "p.png", "What?", "What?", 4)],
        None,
        tmp_path / "a",
        "m",
    )

    def settings(**how):
        model = dict(model_path=str(vicuna.nested), vision_tower=str(vicuna.clip), device="cpu")
        args = AskArguments(**model, compensation="none", visual_token_num="1/9", **how)
        return run_settings(run, args, Shared(compensation=False))

    split = settings(view_split="base-first")
    assert split["view_split"] == "base-first" and "view_split=base-first" in split["method"]
    assert "view_split" not in settings() and settings()["num_patches"] == 5 * SIDE**2
    with pytest.raises(UserError, match="view_split global has no effect with the pruner pool"):
        settings(view_split="global", pruner="pool")


@pytest.mark.parametrize(
    "how, said",
    [
        ({"view_split": "even"}, "view_split is 'even'; it must be one of global"),
        ({"view_split": "globl"}, "did you mean global"),
        ({"view_split": "global", "pruner": "pool"}, "no effect with the pruner pool"),
        ({"view_split": "global", "pruner": "none"}, "no effect where all tokens are kept"),
        ({"view_split": "proportional", "text_token_num": 3}, "no effect with text_token_num"),
        ({"pruner": "fastv", "visual_token_num": 50}, "fastv works inside the LLM, .* newline"),
        ({"visual_token_num": 0}, "visual_token_num is 0"),
    ],
)
def test_what_several_views_cannot_have_is_refused(on_vicuna, pictures, how, said):
    with pytest.raises(UserError, match=said):
        on_vicuna.check(ask(pictures[6], **how))


@pytest.mark.parametrize("split", VIEW_SPLITS)
def test_a_split_is_refused_where_there_is_one_view(model, pictures, split):
    with pytest.raises(UserError, match="reads an image in one view: leave it out"):
        model.check(ask(pictures[6], view_split=split))


def test_rectify_is_refused_and_merging_merges_over_all_views(vicuna, pictures):
    rectifying = load(vicuna.nested, vicuna.clip, compensation="rectify")
    with pytest.raises(UserError, match="rectify places tokens in one grid"):
        rectifying.check(ask(pictures[6], visual_token_num=9))
    merging = load(vicuna.nested, vicuna.clip, compensation="merge")
    answers = merging.answer([ask(p, visual_token_num=9, pruner="mmtok") for p in pictures[4:8]])
    assert [len(answer.kept_idx) for answer in answers] == [9] * 4
    assert all(answer.supplement.features.shape[0] == 9 for answer in answers)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_says_so(on_vicuna, size):
    with pytest.raises(UserError, match="the image has no pixels"):
        on_vicuna.answer([ask(Image.new("RGB", size))])


def test_images_of_equal_pixels_and_different_sizes_are_not_mixed_up(on_vicuna):
    """Black images are like their padding, and differ only in what of it is shown."""
    asked = [ask(Image.new("RGB", size), pruner="none") for size in ((168, 168), (100, 168))]
    first, second = on_vicuna.preprocess([sample.image for sample in asked])
    assert torch.equal(first.values, second.values)
    memory = Memory()
    for samples in (asked, asked[::-1]):
        for sample, answer in zip(samples, on_vicuna.answer(samples, memory=memory)):
            (alone,) = on_vicuna.answer([sample])
            assert answer.kept_idx == alone.kept_idx
            assert answer.input_length == alone.input_length
            torch.testing.assert_close(answer.first_logits, alone.first_logits, rtol=0, atol=1e-4)
    assert len({on_vicuna.count_tokens(sample.image) for sample in asked}) == 2


def test_what_was_asked_before_about_an_image_changes_nothing(on_vicuna, pictures):
    """Other budgets, splits and pruners of one image share a memory, but no keys and values."""
    memory, picture = Memory(), pictures[6]
    ways = [dict(pruner="none")] + [
        dict(pruner=pruner, view_split=split, visual_token_num=k)
        for pruner in ("random", "fastervlm")
        for split in (None, "proportional", "base-first")
        for k in (20, "1/9")
    ]
    asked = [ask(picture, **way) for way in ways]
    asked += [replace(sample, question="And where?") for sample in asked]
    for _ in range(2):
        for sample, answer in zip(asked, on_vicuna.answer(asked, memory=memory)):
            (alone,) = on_vicuna.answer([sample])
            assert answer.kept_idx == alone.kept_idx and answer.out_ids == alone.out_ids
            torch.testing.assert_close(answer.first_logits, alone.first_logits, rtol=0, atol=1e-4)


def test_an_image_that_is_too_long_says_so(on_vicuna):
    with pytest.raises(UserError, match="at most 9459 pixels a side"):
        on_vicuna.answer([ask(Image.new("RGB", (1, 10_000)))])


def changed(tiny_folder, target, **changes):
    """A copy of a checkpoint's config.json with other values; a None leaves a key out."""
    target.mkdir()
    for file in tiny_folder.iterdir():
        if file.name != "config.json":
            (target / file.name).symlink_to(file)
    config = json.loads((tiny_folder / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    "layout, changes, said",
    [
        ("flat", {"mm_patch_merge_type": "flat"}, "mm_patch_merge_type 'flat'; LLaVA-NeXT has"),
        ("flat", {"image_grid_pinpoints": None}, "image_grid_pinpoints None: LLaVA-NeXT has a"),
        ("flat", {"image_grid_pinpoints": "(1x1)"}, r"image_grid_pinpoints '\(1x1\)'"),
        ("flat", {"image_grid_pinpoints": [[100, 100]]}, "resolution 100 x 100 .* squares of 84"),
        ("flat", {"vocab_size": 64000}, "64000 words, which is neither Vicuna nor Mistral"),
        ("flat", {"model_type": "llava_qwen"}, "is LLaVA on Qwen"),
        ("nested", {"image_grid_pinpoints": [[84, 0]]}, "image_grid_pinpoints"),
        ("nested", {"image_grid_pinpoints": [[84] * 2] * 99}, "image_grid_pinpoints"),
        ("nested", {"image_grid_pinpoints": [[84, 168]]}, "image_grid_pinpoints is .* in config"),
        ("nested", {"vision_feature_select_strategy": "full"}, "strategy 'full'"),
        ("nested", {"multimodal_projector_bias": False}, "multimodal_projector_bias False"),
        ("nested", {"text_config": {"model_type": "qwen2"}}, "an LLM of the kind 'qwen2'"),
        ("nested", {"text_config": 3}, "an LLM of the kind"),
        ("nested", {"model_type": "llava_onevision"}, "is LLaVA-OneVision .* not supported"),
        ("nested", {"model_type": "llava"}, "not the file of this model|image_newline"),
    ],
)
def test_a_config_that_is_not_llava_next_s(tmp_path, vicuna, layout, changes, said):
    folder = changed(getattr(vicuna, layout), tmp_path / "changed", **changes)
    with pytest.raises(UserError, match=said):
        load(folder, vicuna.clip)


def test_a_mistral_attends_as_far_as_its_window(tmp_path, mistral):
    folder = changed(mistral.flat, tmp_path / "short", sliding_window=512)
    assert load(folder, mistral.clip).language_model.context_length == 512
    assert load(mistral.flat, mistral.clip).language_model.context_length == 1024


def test_the_question_is_in_the_llm_s_template_and_the_caption_before_it(tiny, next_model):
    tokenizer = next_model.language_model.tokenizer

    def text(**how):
        given = Supplement("A cat.", heading="Hint:")
        ids = next_model.backbone.prompt_ids(ask(None, **how), given, 999)
        assert ids.count(IMAGE_TOKEN_INDEX) == 1 and ids[0] == tokenizer.bos_token_id
        place = ids.index(IMAGE_TOKEN_INDEX)
        return tokenizer.decode(ids[:place]), tokenizer.decode(ids[place + 1 :])

    is_mistral = tiny.stock.config.text_config.model_type == "mistral"
    before, after = text()
    assert before.strip() == "[INST]" if is_mistral else before.endswith("questions. USER: ")
    end = "[/INST]" if is_mistral else "ASSISTANT:"
    assert "".join(after.split()) == f"Hint:Acat.Whatisinthepicture?{end}"
    _, after = text(history=(("Who?", "Me."),))
    assert after.index("Who?") < after.index("Me.") < after.index("A cat.") < after.index("What")
    assert after.count("[/INST]") == 2 * is_mistral


def test_sizes_are_those_of_the_real_model():
    sizes = ((672, 672), (1008, 336), (480, 640), (1, 1))
    counts = [layout_of(size, REAL_RESOLUTIONS, 336, 24).num_tokens for size in sizes]
    assert counts[:2] == [2880, 2304] and max(counts) == 2880

"""The pruners by name, the door to them, and the model with each."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from llava.compensations import COMPENSATIONS
from llava.errors import UserError
from llava.eval.figure import REASON_COLOURS, trace_picture
from llava.model.compensation.registry import LOADERS
from llava.model.memory import Memory
from llava.model.multimodal_encoder.visual_tokens import Needs, Projected, View, VisualTokens
from llava.model.sample import Sample
from llava.model.token_pruning.content_words import content_words
from llava.model.token_pruning.controls import pool_weights
from llava.model.token_pruning.pruner import CLS, Pruning, Query, prune
from llava.model.token_pruning.published import PUBLISHED
from llava.model.token_pruning.registry import PRUNERS, find_pruner

SIDE = 6
# Those inside the LLM are in test_inside_llm.py.
BEFORE_LLM = [name for name, pruner in PRUNERS.items() if pruner.layers is None]
ANY_BUDGET = [name for name in BEFORE_LLM if name not in ("none", "zero")]


@pytest.fixture(scope="module")
def samples():
    pictures = [Image.new("RGB", (40, 30), colour) for colour in ("red", "navy")]
    return [Sample(p, "What is it?", visual_token_num=9, max_new_tokens=2) for p in pictures]


def images(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    n = SIDE * SIDE

    def normal(*shape):
        return torch.randn(*shape, generator=draw)

    return [
        VisualTokens(
            features=normal(n, 8),
            patch_embeds=normal(n, 4),
            cls_attention=normal(n).softmax(0),
            cls_feature=normal(8),
            head_attention=normal(2, n + 1).softmax(-1),
            middle_head_attention=normal(2, n + 1).softmax(-1),
            received=normal(n + 1).softmax(-1),
            middle_received=normal(n + 1).softmax(-1),
            keys=normal(n + 1, 8),
            last_keys=normal(n + 1, 8),
            last_query=normal(8),
            feature_embeds=normal(n, 4),
            projected=normal(n, 24),
        )
        for _ in range(count)
    ]


def queries(count):
    draw = torch.Generator().manual_seed(9)
    vectors = torch.randn(count, 4, generator=draw)
    return [
        Query(v / v.norm(), v[None], torch.randn(2 + b, 24, generator=draw))
        for b, v in enumerate(vectors)
    ]


def pruned(names, budgets, of=None, seeds=None):
    of = images(len(names)) if of is None else of
    prunings = [
        Pruning(PRUNERS[name], k, PRUNERS[name].options()) for name, k in zip(names, budgets)
    ]
    seeds = range(len(names)) if seeds is None else seeds
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return prune(of, queries(len(names)), prunings, generators)


@pytest.mark.parametrize("name", ANY_BUDGET)
def test_every_budget_is_met_and_kept_and_dropped_are_all_tokens(name):
    n = SIDE * SIDE
    for k in (1, 2, 3, 4, 7, 9, 18, n - 2, n - 1):
        (one,) = pruned([name], [k])
        assert len(one.kept_idx) == len(one.reasons) == k
        patches = one.kept_idx[one.kept_idx != CLS]
        assert len(patches) >= k - 1
        both = torch.cat([patches, one.dropped_idx])
        assert both.sort().values.tolist() == list(range(n))
        visible = one.visible(images(1)[0])
        if isinstance(visible, Projected):
            assert visible.tokens.shape == (k, 24)
        else:
            assert visible.shape == (k, 8)
        assert all(reason in REASON_COLOURS for reason in one.reasons)


@pytest.mark.parametrize("name", list(PRUNERS))
def test_an_image_is_pruned_in_a_batch_as_alone(name):
    of, budgets = images(3), [4, 9, 20]
    together = pruned([name] * 3, budgets, of)
    for b, one in enumerate(together):
        prunings = [Pruning(PRUNERS[name], budgets[b], PRUNERS[name].options())]
        (alone,) = prune([of[b]], [queries(3)[b]], prunings, [torch.Generator().manual_seed(b)])
        assert torch.equal(alone.kept_idx, one.kept_idx) and alone.reasons == one.reasons
        assert (alone.weights is None) == (one.weights is None)
        assert alone.weights is None or torch.equal(alone.weights, one.weights)


def test_one_batch_may_hold_several_pruners():
    names, budgets = ["random", "accm", "uniform", "random"], [5, 6, 7, 8]
    for b, one in enumerate(pruned(names, budgets)):
        (alone,) = prune(
            [images(4)[b]],
            [queries(4)[b]],
            [Pruning(PRUNERS[names[b]], budgets[b], PRUNERS[names[b]].options())],
            [torch.Generator().manual_seed(b)],
        )
        assert torch.equal(alone.kept_idx, one.kept_idx)


def test_all_and_none():
    every, nothing = pruned(["none", "zero"], [3, 3])
    assert every.kept_idx.tolist() == list(range(SIDE * SIDE)) and len(nothing.kept_idx) == 0


def test_random_draws_anew_with_each_seed_and_the_same_with_one():
    first, again, other = (pruned(["random"], [10], seeds=[s])[0].kept_idx for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_uniform_takes_the_middle_of_even_stretches():
    (one,) = pruned(["uniform"], [4])
    assert one.kept_idx.tolist() == [4, 13, 22, 31]


def test_pool_is_average_pooling_where_the_grid_is_divided_evenly():
    image = images(1)[0]
    (one,) = pruned(["pool"], [9], [image])
    grid = image.features.T.reshape(1, 8, SIDE, SIDE)
    wanted = torch.nn.functional.avg_pool2d(grid, 2).flatten(2)[0].T
    torch.testing.assert_close(one.apply(image.features), wanted)


@pytest.mark.parametrize("sides", [(24, 24), (3, 5), (1, 7)])
def test_pool_shares_the_area_out_for_any_number_of_cells(sides):
    view = View(0, *sides)
    n = view.rows * view.columns
    for k in range(1, n + 1):
        weights, centres = pool_weights(view, k)
        assert weights.shape == (k, n) and len(set(centres.tolist())) == k
        torch.testing.assert_close(weights.sum(1), torch.ones(k))
    torch.testing.assert_close(pool_weights(view, n)[0], torch.eye(n))
    assert centres.tolist() == list(range(n))


def test_by_hand_two_cells_of_a_row_of_three():
    weights, _ = pool_weights(View(0, 1, 3), 2)
    torch.testing.assert_close(weights, torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))


def test_an_unknown_pruner_is_told_what_there_is():
    with pytest.raises(
        UserError, match=r"no pruner 'unifrom' \(did you mean uniform\?\): use accm"
    ):
        find_pruner("unifrom")


@pytest.fixture(scope="module")
def picture():
    return Image.linear_gradient("L").convert("RGB")


def test_the_model_answers_with_each_alone_as_beside_all_others(prune_only, picture):
    """Every budget is exact, and pictures show what was kept."""
    ask = dict(question="What is this?", max_new_tokens=2)
    asked = [
        Sample(picture, pruner=name, visual_token_num=5 + b % 8, **ask)
        for b, name in enumerate(ANY_BUDGET)
    ]
    together = prune_only.answer(asked)
    backwards = prune_only.answer(asked[::-1])[::-1]
    memory = Memory()
    for sample, one, other in zip(asked, together, backwards):
        (alone,) = prune_only.answer([sample], memory=memory)
        assert len(one.kept_idx) == len(one.pruned.reasons) == sample.visual_token_num
        assert one.kept_idx == other.kept_idx == alone.kept_idx
        assert one.out_ids == other.out_ids == alone.out_ids
        assert (one.selection is None) == (sample.pruner != "accm")
        trace_picture(prune_only, picture, "What is this?", one)


def test_captions_describe_what_any_pruner_drops(model, picture):
    """With the CLS token kept, with tokens merged before the projector and after it."""
    names = ["uniform", "visionzip", "vscan"]
    asked = [
        Sample(picture, "What?", pruner=name, visual_token_num=9, max_new_tokens=2)
        for name in names
    ]
    for answer in model.answer(asked):
        assert len(answer.kept_idx) == 9 and len(answer.compensation.captions) == 3


def independent_arrays(model, picture, question):
    """What published pruners read, from transformers' own outputs, by their recorded names."""
    clip, llm = model.tower.clip, model.language_model
    vision, seen = clip.vision_model, {}
    layers = vision.encoder.layers
    hooks = [
        getattr(layer.self_attn, name).register_forward_hook(
            lambda _, __, out, key=(number, name): seen.__setitem__(key, out)
        )
        for number, layer in enumerate(layers)
        for name in ("q_proj", "k_proj")
    ]
    with torch.inference_mode():
        out = vision(model.preprocess([picture]), output_attentions=True, output_hidden_states=True)
        for hook in hooks:
            hook.remove()
        num_layers, hidden = len(layers), out.hidden_states[-2]

        def attention(published):  # a layer of 24, counted from 1
            return out.attentions[max(1, round(published * num_layers / 24)) - 1]

        ids = model.clip_tokenizer.encode(question, 77)
        words = llm.tokenizer.encode(content_words(question))[1:]
        return {
            "hidden": hidden,
            "attn_cls": out.attentions[-2][:, :, 0],
            "attn_cls_mid": attention(6)[:, :, 0],
            "attn_mean_deep": out.attentions[-2].mean((1, 2)),
            "attn_mean_mid": attention(9).mean((1, 2)),
            "keys": seen[num_layers - 2, "k_proj"],
            "last_keys": seen[num_layers - 1, "k_proj"],
            "query_cls": seen[num_layers - 1, "q_proj"][:, 0],
            "projected": llm.projector(hidden[:, 1:]),
            "image_embeds": clip.visual_projection(vision.post_layernorm(hidden[:, 1:])),
            "text_embeds": clip.get_text_features(torch.tensor([ids])).pooler_output[None],
            "llm_text": llm.llm.get_input_embeddings()(torch.tensor([words])),
        }


def test_the_pipeline_gives_each_what_its_paper_reads(prune_only, picture):
    """Kept tokens and what the LLM reads: the pure function's on transformers' outputs."""
    question = "Is the grey ramp darker on the left?"
    arrays = independent_arrays(prune_only, picture, question)
    names = [name for name in PUBLISHED if name in BEFORE_LLM]
    assert len(names) == 15
    for budget in (4, 9, 14):
        asked = [Sample(picture, question, visual_token_num=budget, pruner=n) for n in names]
        encoded = prune_only.encode(asked)
        for name, one, found in zip(names, encoded, prune_only.prune(encoded, asked)):
            published = PUBLISHED[name]
            renamed = {"keys": "last_keys"} if name.startswith("prumerge") else {}
            x = {key: arrays[renamed.get(key, key)] for key in published.reads}
            (choice,) = published.choose(x, budget, published.options())
            anchors = choice.kept if choice.anchors is None else choice.anchors
            assert found.kept_idx.tolist() == anchors.tolist(), name
            visible = found.visible(one.image)
            assert isinstance(visible, Projected) == (name == "vscan")
            tokens = visible.tokens if isinstance(visible, Projected) else visible
            if "merged" in choice.arrays:
                wanted = choice.arrays["merged"]
            else:
                wanted = arrays["hidden"][0][choice.kept + 1]
                extra = [
                    choice.arrays[k] for k in ("contextual", "mean_token") if k in choice.arrays
                ]
                wanted = torch.cat([wanted, *extra])
            torch.testing.assert_close(tokens, wanted, rtol=1e-4, atol=1e-5)


def test_a_long_question_is_read_in_segments(prune_only, picture):
    short = Sample(picture, "What is it?", pruner="cdpruner", visual_token_num=9)
    long = replace(short, question="What is it ? " * 60)
    (first,), (second,) = (prune_only.encode([sample]) for sample in (short, long))
    assert len(first.query.text_embeds) == 1 and len(second.query.text_embeds) > 2
    unit = prune_only.encode_questions([short.question])[0]
    assert first.query.text_embed is None
    torch.testing.assert_close(
        torch.nn.functional.normalize(first.query.text_embeds[0], dim=0), unit
    )


@pytest.mark.parametrize(
    "question, words",
    [
        ("What is the colour of the man's left shoe?", "colour man's left shoe"),
        ("What is it?", "What is it?"),
        ("?", "?"),
    ],
)
def test_words_of_a_question(question, words):
    assert content_words(question) == words


def test_published_gives_the_authors_number(prune_only, picture):
    ask = dict(question="What?", visual_token_num=9, max_new_tokens=2)
    options = {"published": True}
    names = ("trim", "prumerge", "vscan", "mustdrop")
    for name in names:
        sample = Sample(picture, pruner=name, pruner_options=options, **ask)
        (answer,) = prune_only.answer([sample])
        (again,) = prune_only.answer([replace(sample, pruner_options=["published=true"])])
        assert len(answer.kept_idx) != 9 and answer.kept_idx == again.kept_idx, name
        assert answer.input_length == prune_only.prompt_length(sample) + len(answer.kept_idx) - (
            prune_only.count_tokens() + 1
        )


def test_random_principal_components_are_drawn_by_the_samples_seed(prune_only):
    noise = Image.effect_noise((40, 40), 80).convert("RGB")
    base = Sample(noise, "What?", visual_token_num=12, pruner="prunesid", max_new_tokens=1)
    random = replace(base, pruner_options=["pca=lowrank"])
    asked = [replace(random, seed=seed) for seed in (1, 1, 2, 3, 4)]
    kept = [answer.kept_idx for answer in prune_only.answer(asked)]
    assert kept[0] == kept[1] and len(set(map(tuple, kept))) > 1
    given = replace(random, pruner_options=["pca=lowrank", "seed=1"], seed=7)
    assert prune_only.answer([given])[0].kept_idx == kept[0]


def test_none_is_the_whole_image_and_zero_is_no_image(model, picture):
    every, full = (
        Sample(picture, "What?", max_new_tokens=4, **how)
        for how in ({"pruner": "none"}, {"visual_token_num": model.tower.num_patches})
    )
    nothing, blind = (
        Sample(picture, "What?", max_new_tokens=4, **how)
        for how in ({"pruner": "zero"}, {"no_image": True})
    )
    found = model.answer([every, full, nothing, blind])
    for one, other in (found[:2], found[2:]):
        assert torch.equal(one.first_logits, other.first_logits)
        assert one.input_length == other.input_length and one.pruned is None
    assert found[2].kept_idx == []


@pytest.mark.parametrize(
    "how, said",
    [
        ({"pruner": "best"}, "no pruner 'best'"),
        ({"pruner": "random", "text_token_num": 3}, "no effect with the pruner random"),
        ({"pruner": "none", "visual_token_num": 3}, "keeps all"),
        ({"pruner": "cdprunr"}, r"did you mean cdpruner"),
        ({"pruner": "scope", "pruner_options": ["alpa=2"]}, r"scope: .* alpa \(did you mean alpha"),
        ({"pruner": "scope", "pruner_options": ["alpha=two"]}, "alpha is 'two'.* of type float"),
        ({"pruner": "scope", "pruner_options": {"combined": "xor"}}, "use multi or add"),
        ({"pruner": "cdpruner", "pruner_options": ["theta=1"]}, "from 0 to below 1"),
        ({"pruner": "scope", "pruner_options": ["alpha"]}, "'alpha' is not NAME=VALUE"),
        ({"pruner": "scope", "pruner_options": ["alpha=1", "alpha=2"]}, "given twice"),
        ({"pruner": "scope", "pruner_options": "alpha=1"}, "give texts NAME=VALUE"),
        ({"pruner_options": ["text_token_num=3"]}, "accm takes no options: text_token_num and"),
        ({"pruner": "random", "pruner_options": ["k=3"]}, "there are none"),
        (
            {"pruner": "visionzip", "visual_token_num": 9, "pruner_options": ["dominant=10"]},
            "are not the 9 of the budget",
        ),
        (
            {"pruner": "mustdrop", "visual_token_num": 9, "pruner_options": ["window=50"]},
            "cannot be cut into windows of 50",
        ),
    ],
)
def test_what_a_pruner_cannot_use_is_refused(model, picture, how, said):
    with pytest.raises(UserError, match=said):
        model.check(Sample(picture, "What?", **how))


def test_the_tower_computes_what_is_asked_for(model, prune_only, samples):
    uniform = [replace(sample, pruner="uniform") for sample in samples]
    encoded = {id(e.image): e.image for e in prune_only.encode(uniform)}.values()
    assert all(e.patch_embeds is None and e.cls_attention is None for e in encoded)
    # Captions describe the dropped patches.
    encoded = {id(e.image): e.image for e in model.encode(uniform)}.values()
    assert all(e.patch_embeds is not None and e.cls_attention is None for e in encoded)
    whole = [replace(sample, pruner="none", visual_token_num=None) for sample in samples]
    assert prune_only.needs(whole) == Needs.NOTHING
    assert model.needs(samples) == Needs.PATCH_EMBEDS | Needs.CLS_ATTENTION | Needs.QUESTION


def test_one_run_may_need_more_of_an_image_than_the_run_before(prune_only, samples):
    memory = Memory()
    prune_only.answer([replace(samples[0], pruner="uniform")], memory=memory)
    (after,) = prune_only.answer([samples[0]], memory=memory)
    (fresh,) = prune_only.answer([samples[0]])
    assert after.kept_idx == fresh.kept_idx
    assert torch.equal(after.first_logits, fresh.first_logits)


def test_an_image_that_was_encoded_with_too_little_is_refused(prune_only, samples):
    pixels = prune_only.preprocess([samples[0].image])
    (bare,) = prune_only.encode_images(pixels, Needs.NOTHING)
    prune_only.answer([replace(samples[0], image=bare, pruner="uniform")])
    with pytest.raises(UserError, match="encoded for another way to prune"):
        prune_only.answer([replace(samples[0], image=bare)])


def test_each_compensation_that_a_flag_names_can_be_loaded():
    assert list(LOADERS) == list(COMPENSATIONS)

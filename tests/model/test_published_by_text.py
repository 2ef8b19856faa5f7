"""Published pruners that read the question or work inside the LLM.

Hand-worked cases, invariants, and the cases recorded from their authors' code where
``../shared/golden/pruners`` is there.
"""

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from llava.errors import UserError
from llava.model.token_pruning.cdpruner import CDPrunerOptions, cdpruner
from llava.model.token_pruning.dart import DartOptions, dart
from llava.model.token_pruning.density_peaks import density_peaks
from llava.model.token_pruning.divprune import DivPruneOptions, divprune
from llava.model.token_pruning.fastv import FastVOptions, fastv
from llava.model.token_pruning.mmtok import MMTokOptions, mmtok
from llava.model.token_pruning.published_text import BY_TEXT
from llava.model.token_pruning.pyramiddrop import PyramidDropOptions, pyramiddrop
from llava.model.token_pruning.scope import ScopeOptions, scope
from llava.model.token_pruning.sparsevlm import SparseVlmOptions, sparsevlm
from llava.model.token_pruning.trim import TrimOptions, trim
from llava.model.token_pruning.vscan_llm import VScanLlmOptions, vscan_llm

RECORDED = Path(__file__).parents[3] / "shared" / "golden" / "pruners"
N, SYSTEM, TEXT = 16, 7, 5
PRUNERS = {pruner.name: pruner for pruner in BY_TEXT}
NAMES = sorted(PRUNERS)


def drawn(count, seed=0):
    """Arrays of ``count`` images of a 4 x 4 grid, all that the methods read."""
    draw = torch.Generator().manual_seed(seed)

    def features(*shape):
        return torch.randn(count, *shape, generator=draw)

    length = SYSTEM + N + TEXT
    return {
        "hidden": features(N + 1, 24),
        "attn_cls": features(4, N + 1).softmax(-1),
        "projected": features(N, 32),
        "image_embeds": features(N, 12),
        "text_embeds": features(2, 12),
        "llm_text": features(TEXT, 32),
        "llm_hidden": features(length, 16),
        "llm_keys": features(length, 16),
        "llm_queries": features(3, 16),
        "llm_attn": features(4, TEXT, length).softmax(-1),
    }


def chosen(name, x, budget, **settings):
    return PRUNERS[name].choose(x, budget, PRUNERS[name].options(**settings))


def one(*rows):
    """An image of rows of numbers as a batch of one."""
    return torch.tensor([rows], dtype=torch.float32)


def at(*degrees):
    """Vectors of unit length at angles, as a batch of one."""
    return one(*[(math.cos(math.radians(d)), math.sin(math.radians(d))) for d in degrees])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_every_budget_is_met_and_an_image_does_not_depend_on_its_neighbours(name, dtype):
    x = {key: values.to(dtype) for key, values in drawn(3).items()}
    for budget in range(1, N + 1):
        together = chosen(name, x, budget)
        assert len(together) == 3
        for b, choice in enumerate(together):
            kept = choice.kept.tolist()
            assert kept == sorted(set(kept)) and set(kept) <= set(range(N))
            assert (len(kept) if choice.num_out is None else choice.num_out) == budget
            assert choice.picked is None or sorted(choice.picked.tolist()) == kept
            (alone,) = chosen(name, {key: values[b : b + 1] for key, values in x.items()}, budget)
            assert alone.kept.tolist() == kept
            if choice.picked is not None:
                assert alone.picked.tolist() == choice.picked.tolist()
            for key, values in choice.arrays.items():
                torch.testing.assert_close(alone.arrays[key], values)


@pytest.mark.parametrize("budget", [0, -1, N + 1, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_budget_that_cannot_be_met_is_refused_in_one_line(name, budget):
    with pytest.raises(UserError, match="must be a whole number from 1 to 16"):
        chosen(name, drawn(1), budget)


@pytest.mark.parametrize(
    "name, count",
    [
        ("divprune", 2),  # round(0.098 x 16)
        ("fastv", 8),
        ("pyramiddrop", 2),
        ("dart", 4),  # the image pivots: int(16 (1 - 0.778) / 8) = 0
        ("vscan_llm", 5),
    ],
)
def test_without_a_budget_the_method_has_its_own_number(name, count):
    assert all(len(choice.kept) == count for choice in chosen(name, drawn(2), None))


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("cdpruner", {"theta": 1.0}, "theta"),
        ("scope", {"combined": "max"}, "use multi or add"),
        ("mmtok", {"vv_temp": 0.0}, "vv_temp"),
        ("pyramiddrop", {"keep": (3, 4)}, "do not fall"),
        ("pyramiddrop", {"keep": (8, 7, 6, 4)}, "at most 3"),
        ("pyramiddrop", {"ratios": ()}, "ratios"),
        ("pyramiddrop", {"heads": 5}, "heads"),
        ("dart", {"num_patches": 25}, "num_patches"),
        ("sparsevlm", {"merge_share": 1.5}, "merge_share"),
        ("sparsevlm", {"system_tokens": 99}, "system_tokens"),
    ],
)
def test_settings_out_of_their_range_are_refused(name, settings, message):
    with pytest.raises(UserError, match=message):
        chosen(name, drawn(1), 4, **settings)


def test_sparsevlm_needs_a_budget():
    with pytest.raises(UserError, match="300/200/110 for 192"):
        chosen("sparsevlm", drawn(1), None)


def test_divprune_picks_the_most_isolated_and_then_the_farthest():
    # The nearest neighbours are 10, 10, 55 and 15 degrees away.
    (choice,) = divprune({"projected": at(0, 10, 80, 25)}, 4, DivPruneOptions())
    assert choice.picked.tolist() == [2, 0, 3, 1]


def test_scope_weighs_coverage_by_attention():
    x = {
        "hidden": one((9, 9), (1, 0), (1, 0), (0, 1)),
        "attn_cls": torch.tensor([[[0.4, 0.1, 0.2, 0.3]]]),
    }

    def picked(**settings):
        return scope(x, 3, ScopeOptions(**settings))[0].picked.tolist()

    assert picked() == [1, 2, 0]  # 2 x 0.2 before 1 x 0.3; then the first one covers nothing
    assert picked(alpha=0.0) == [0, 2, 1]  # coverage alone; of equals the first
    assert picked(combined="add") == [1, 2, 0]  # 2 + 0.2; then 1 + 0.3 before 0 + 0.1


def test_scope_does_not_count_opposite_patches():
    x = {"hidden": one((9, 9), (1, 0), (-1, 0), (-1, 0)), "attn_cls": torch.ones(1, 1, 4)}
    assert scope(x, 2, ScopeOptions())[0].picked.tolist() == [1, 0]


def test_mmtok_covers_the_words():
    x = {
        "projected": torch.eye(3)[None],
        "hidden": torch.ones(1, 4, 2),
        "llm_text": one((0, 0, 1), (1, 0, 0), (0, 0, 1)),
    }
    assert mmtok(x, 2, MMTokOptions())[0].picked.tolist() == [2, 0]


def conditioned():
    """Four patches, the first two equal, whose cosines with the question are .1, .1, .5, .9."""
    to_text = at(*(math.degrees(math.acos(cosine)) for cosine in (0.1, 0.1, 0.5, 0.9)))
    return {
        "projected": one((1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        "image_embeds": to_text * 3,
        "text_embeds": one((2, 0)),
    }


def test_cdpruner_takes_what_is_unlike_the_text_and_not_known_yet():
    (choice,) = cdpruner(conditioned(), 4, CDPrunerOptions())
    assert choice.picked.tolist() == [0, 2, 1, 3]


def test_cdpruner_as_published_stops_where_the_features_have_no_more_dimensions():
    (choice,) = cdpruner(conditioned(), 4, CDPrunerOptions(published=True))
    assert choice.kept.tolist() == [0, 2, 3]


def test_cdpruner_with_theta_0_forgets_the_question():
    x = conditioned() | {"projected": at(0, 10, 50, 90)}
    (choice,) = cdpruner(x, 2, CDPrunerOptions(theta=0.0))
    assert choice.picked.tolist() == [0, 3]


def test_trim_keeps_the_least_similar_and_the_mean_of_the_rest():
    x = {
        "hidden": one((7, 7), (1, 2), (50, 50), (3, 4)),
        "image_embeds": one((3, 0), (1, 0), (2, 0)),
        "text_embeds": one((1, 0), (-9, 0)),
    }
    (choice,) = trim(x, 2, TrimOptions())
    assert choice.kept.tolist() == [1] and choice.num_out == 2
    assert choice.arrays["mean_token"].tolist() == [[2, 3]]
    (mean_alone,) = trim(x, 1, TrimOptions())
    assert mean_alone.kept.tolist() == [] and mean_alone.num_out == 1
    (share,) = trim(x, None, TrimOptions(k=0.67))
    assert share.kept.tolist() == [1, 2] and share.num_out == 3


def test_trim_finds_as_many_outliers_as_each_image_has():
    dots = torch.tensor([[1.0] * 10 + [-3.0, -3.0], [1.0] * 11 + [-3.0]])
    x = {
        "hidden": torch.zeros(2, 13, 2),
        "image_embeds": dots[..., None],
        "text_embeds": torch.ones(2, 1, 1),
    }
    assert [c.kept.tolist() for c in trim(x, None, TrimOptions())] == [[10, 11], [11]]


def test_fastv_reads_the_last_text_token_and_the_image_alone():
    rows = [[9, 9, 1, 1, 1, 9, 9], [9, 9, 0, 3, 3, 4, 9]]  # 2 system, 3 image, 2 text tokens
    x = {"llm_attn": torch.tensor([[rows]], dtype=torch.float32)}
    (choice,) = fastv(x, 2, FastVOptions(system_tokens=2))
    assert choice.picked.tolist() == [1, 2]


def pyramid():
    """A head of width 1: one system token, four image tokens, a text token; three queries."""
    return {
        "llm_keys": torch.tensor([9.0, 3, 1, 4, 2, 9])[None, :, None],
        "llm_queries": torch.tensor([1.0, -1, 1])[None, :, None],
    }


def test_pyramiddrop_ranks_the_survivors_of_the_stage_before():
    at_stages = {"heads": 1, "system_tokens": 1}
    stages = [
        pyramiddrop(pyramid(), None, PyramidDropOptions(keep=keep, **at_stages))[0].kept.tolist()
        for keep in ((3,), (3, 2), (3, 2, 1))
    ]
    assert stages == [[0, 2, 3], [0, 3], [0]]


def test_vscan_llm_is_one_stage():
    options = VScanLlmOptions(heads=1, system_tokens=1, num_patches=4)
    assert vscan_llm(pyramid(), 2, options)[0].kept.tolist() == [0, 2]


def test_dart_keeps_image_pivots_and_what_is_unlike_the_pivots():
    x = {  # one system token, four image tokens, a text token
        "llm_keys": torch.tensor([9.0, 1, 1, -5, 1, 9])[None, :, None],
        "llm_hidden": one((1, 1), (1, 0), (0, 1), (1, 0), (-1, 0), (0, 1)),
    }
    pivots = {"pivot_image": 1, "pivot_text": 1, "system_tokens": 1}
    # The third is the image pivot, the last one the least like it, the first unlike the text pivot.
    assert dart(x, 3, DartOptions(**pivots))[0].kept.tolist() == [0, 2, 3]
    assert dart(x, 2, DartOptions(**pivots))[0].kept.tolist() == [2, 3]
    as_published = DartOptions(**pivots, published=True)  # 1 + 2 int(4 x 0.5 / 2)
    assert dart(x, 2, as_published)[0].kept.tolist() == [0, 2, 3]


def test_sparsevlm_asks_the_raters_and_recycles():
    x = {  # one system token, four image tokens, two text tokens
        "projected": torch.ones(1, 4, 1),
        "llm_text": torch.tensor([2.0, -2.0])[None, :, None],
        "llm_attn": torch.tensor([[[[9, 0.1, 0.4, 0.2, 0.3, 9, 0], [9, 1, 0, 1, 0, 9, 9]]]]),
        "llm_hidden": torch.arange(7.0)[None, :, None],
    }
    (own,) = sparsevlm(x, 2, SparseVlmOptions(published=True, system_tokens=1))
    assert own.kept.tolist() == [1, 3] and own.num_out == 3
    assert own.arrays["raters"].tolist() == [0] and own.arrays["recycled"].tolist() == [2]
    torch.testing.assert_close(own.arrays["clusters"], torch.tensor([[3.0]]), rtol=1e-5, atol=0)
    (exact,) = sparsevlm(x, 2, SparseVlmOptions(system_tokens=1))
    assert exact.kept.tolist() == [1] and exact.num_out == 2
    assert exact.arrays["recycled"].tolist() == [3]


def test_sparsevlm_with_one_word_lets_it_rate():
    x = drawn(1)
    x |= {"llm_text": x["llm_text"][:, :1], "llm_attn": x["llm_attn"][:, :, :1, : SYSTEM + N + 1]}
    assert chosen("sparsevlm", x, 8)[0].arrays["raters"].tolist() == [0]


def test_density_peaks_are_the_middles_of_heaps():
    states = torch.tensor([0.0, 10.0, 1.0, -1.0, 11.0, 9.0])[None, :, None]
    clusters = density_peaks(states, 2, seed=0)
    torch.testing.assert_close(clusters.flatten().sort().values, torch.tensor([0.0, 10.0]))


@cache
def recorded():
    cases = json.loads((RECORDED / "cases.json").read_text("utf-8"))
    return cases, np.load(RECORDED / "inputs.npz"), np.load(RECORDED / "outputs.npz")


def replayed(case, arrays, dtype):
    options = PRUNERS[case["method"]].options
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in case["settings"].items()
    }
    if "published" in options.__dataclass_fields__:
        settings["published"] = True
    x = {key.split("/")[1]: torch.from_numpy(arrays[key]).to(dtype)[None] for key in case["inputs"]}
    return chosen(case["method"], x, case["budget"], **settings)[0]


def agrees(case, choice, compare, kept, picked, arrays, outputs):
    found = choice.kept.tolist()
    num_out = len(found) if choice.num_out is None else choice.num_out
    if num_out != case.get("n_out", num_out):
        return False
    if compare == "class":
        classes = arrays[f"{case['scene']}/tie_class"]
        return sorted(classes[found]) == sorted(classes[kept])
    if compare == "set":
        return sorted(found) == sorted(kept)
    merged = case.get("arrays", []) if case.get("arrays_robust") else []
    return (
        found == kept
        and (picked is None or choice.picked.tolist() == (kept if picked == "kept" else picked))
        and all(
            np.allclose(choice.arrays[key.split("/")[-1]], outputs[key], rtol=1e-3, atol=1e-3)
            for key in merged
        )
    )


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded cases are not here")
@pytest.mark.parametrize("dtype, suffix", [(torch.float32, ""), (torch.float64, "64")])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "vscan_llm"])
def test_the_recorded_cases_are_met(name, dtype, suffix):
    document, arrays, outputs = recorded()
    seen, wrong = 0, []
    for case in document["cases"]:
        compare = case.get(f"compare{suffix}")
        if case["method"] != name or compare not in ("exact", "set", "class"):
            continue
        kept = case.get(f"kept{suffix}", case["kept"])
        picked = case.get(f"picked{suffix}", case.get("picked"))
        choice = replayed(case, arrays, dtype)
        seen += 1
        if not agrees(case, choice, compare, kept, picked, arrays, outputs):
            wrong.append(case["id"])
    assert not wrong
    assert seen or (suffix and name in ("cdpruner", "mmtok"))  # these are float32 inside


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded cases are not here")
def test_a_batch_gives_what_the_authors_code_gives_alone():
    document, arrays, _ = recorded()
    coupled = [
        case
        for case in document["batch_coupling"]
        if case["method"] in ("cdpruner", "trim-adaptive")
    ]
    assert coupled
    for case in coupled:
        x = {
            name: torch.stack(
                [torch.from_numpy(arrays[f"{scene}/{name}"]).float() for scene in case["scenes"]]
            )
            for name in ("hidden", "projected", "image_embeds", "text_embeds")
        }
        choices = chosen(case["method"].partition("-")[0], x, case["budget"], published=True)
        assert [choice.kept.tolist() for choice in choices] == case["alone"]

"""Published pruners: hand-worked cases, what holds for all, and the recorded cases.

The recorded cases are read from ``../shared/golden/pruners`` where that is there.
"""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch

from llava.errors import UserError
from llava.eval.replaying import Recorded, replay_case
from llava.model.token_pruning.components import largest_loading
from llava.model.token_pruning.fastervlm import FasterVlmOptions
from llava.model.token_pruning.hiprune import HiPruneOptions
from llava.model.token_pruning.holov import HoloVOptions
from llava.model.token_pruning.mustdrop import MustDropOptions
from llava.model.token_pruning.options import settings_of
from llava.model.token_pruning.prumerge import PruMergeOptions
from llava.model.token_pruning.prunesid import PruneSidOptions
from llava.model.token_pruning.published import PUBLISHED, find_published
from llava.model.token_pruning.visionzip import VisionZipOptions
from llava.model.token_pruning.vispruner import VisPrunerOptions
from llava.model.token_pruning.vscan import VScanOptions
from tests.conftest import SHARED

# Those inside the LLM have tests of their own, in test_published_by_text.py.
INSIDE = {"llm_attn", "llm_keys", "llm_queries", "llm_hidden"}
BEFORE = [name for name, pruner in PUBLISHED.items() if INSIDE.isdisjoint(pruner.reads)]
RECORDED = SHARED / "golden" / "pruners"
SIDE = 4  # of a small grid


@pytest.fixture(scope="module")
def images():
    """Random arrays of three small images, in float64 so that sums in another order are equal."""
    random = np.random.default_rng(5)
    n, width = SIDE * SIDE, 8

    def softmax(*shape):
        values = np.exp(random.normal(size=shape))
        return values / values.sum(-1, keepdims=True)

    arrays = {
        "hidden": random.normal(size=(3, n + 1, width)),
        "keys": random.normal(size=(3, n + 1, width)),
        "query_cls": random.normal(size=(3, width)),
        "attn_cls": softmax(3, 2, n + 1),
        "attn_cls_mid": softmax(3, 2, n + 1),
        "attn_mean_deep": softmax(3, n + 1),
        "attn_mean_mid": softmax(3, n + 1),
        "projected": random.normal(size=(3, n, 24)),
        "image_embeds": random.normal(size=(3, n, width)),
        "text_embeds": random.normal(size=(3, 2, width)),
        "llm_text": random.normal(size=(3, 5, 24)),
    }
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def choose(name, budget, options, **arrays):
    """The choice for one image."""
    x = {key: torch.as_tensor(value, dtype=torch.float32)[None] for key, value in arrays.items()}
    (choice,) = PUBLISHED[name].choose(x, budget, options)
    return choice


def with_cls(values, cls=0.0):
    return [cls, *values]


def close(found, wanted):
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=found.dtype))


def num_out(choice):
    return len(choice.kept) if choice.num_out is None else choice.num_out


# What holds for all


@pytest.mark.parametrize("name", BEFORE)
def test_every_budget_is_met_exactly(images, name):
    pruner = PUBLISHED[name]
    n = SIDE * SIDE
    for budget in range(1, n + 1):
        for choice in pruner.choose(images, budget, pruner.options()):
            kept = choice.kept.tolist()
            assert num_out(choice) == budget, budget
            assert len(set(kept)) == len(kept) <= budget
            assert all(-1 <= patch < n for patch in kept)


@pytest.mark.parametrize("name", BEFORE)
def test_an_image_is_pruned_alike_alone_and_in_any_company(images, name):
    pruner = PUBLISHED[name]
    for budget in (1, 3, 6, 11):
        together = pruner.choose(images, budget, pruner.options())
        for b, found in enumerate(together):
            one = {key: values[b : b + 1] for key, values in images.items()}
            (alone,) = pruner.choose(one, budget, pruner.options())
            assert found.kept.tolist() == alone.kept.tolist()
            assert found.num_out == alone.num_out
            for key, values in alone.arrays.items():
                torch.testing.assert_close(found.arrays[key], values)


@pytest.mark.parametrize("name", BEFORE)
def test_a_pruner_leaves_its_inputs_as_they_are(images, name):
    before = {key: values.clone() for key, values in images.items()}
    PUBLISHED[name].choose(images, 5, PUBLISHED[name].options())
    assert all(torch.equal(before[key], images[key]) for key in before)


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("budget", [0, -1, SIDE * SIDE + 1])
def test_a_budget_that_no_image_can_meet_is_refused(images, name, budget):
    with pytest.raises(UserError, match=r"must be"):
        PUBLISHED[name].choose(images, budget, PUBLISHED[name].options())


# By hand


def test_fastervlm_averages_heads_and_takes_the_first_of_equals():
    heads = [with_cls([0.1, 0.4, 0.3, 0.0]), with_cls([0.3, 0.2, 0.1, 0.2])]  # .2 .3 .2 .1
    choice = choose("fastervlm", 2, FasterVlmOptions(), attn_cls=heads)
    assert choice.picked.tolist() == [1, 0]
    assert choice.kept.tolist() == [0, 1]


@pytest.mark.parametrize(
    "anchor, budget, kept",
    [
        (5, 5, [1, 4, 5, 6, 9]),
        (5, 7, [1, 4, 5, 6, 9, 14, 15]),  # and the deep layer's
        (4, 5, [0, 3, 4, 5, 8]),  # left of a row's first is the last above
        (0, 5, [0, 1, 4, 14, 15]),  # nothing is above: two registers more
    ],
)
def test_hiprune_keeps_an_anchor_and_its_neighbours(anchor, budget, kept):
    middle = [0.1 if patch == anchor else 0.01 for patch in range(16)]
    deep = [0.001 * patch for patch in range(16)]
    arrays = {"attn_mean_mid": with_cls(middle), "attn_mean_deep": with_cls(deep)}
    choice = choose("hiprune", budget, HiPruneOptions(alpha=1.0), **arrays)
    assert choice.kept.tolist() == kept


def test_holov_gives_each_crop_its_share():
    attention = [0.3, 0.1, 0.15, 0.05, 0.1, 0.08, 0.17, 0.05]  # .6 and .4 of 4: 2.4 and 1.6
    choice = choose("holov", 4, HoloVOptions(num_patches=2), attn_cls=[with_cls(attention)])
    assert choice.kept.tolist() == [0, 2, 1, 6]


@pytest.mark.parametrize("published, kept", [(False, [0, 1, 2]), (True, [0, 1])])
def test_holov_fills_what_a_full_crop_leaves(published, kept):
    options = HoloVOptions(num_patches=2, published=published)
    choice = choose("holov", 3, options, attn_cls=[with_cls([0.5, 0.4, 0.06, 0.04])])
    assert (choice.kept.tolist(), choice.num_out) == (kept, 3)


def test_mustdrop_merges_like_windows():
    """Windows of 2 x 2; patches 0, 1, 4, 5 are equal, all others differ."""
    hidden = torch.eye(17)[[0, 1, 1, 2, 3, 1, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]]
    options = MustDropOptions(window=2)
    choice = choose("mustdrop", 13, options, hidden=hidden)
    assert choice.kept.tolist() == [2, 3, *range(5, 16)]
    close(choice.arrays["merged"][2], hidden[6].tolist())
    partly = choose("mustdrop", 14, options, hidden=hidden)
    assert partly.kept.tolist() == [2, 3, 4, *range(5, 16)]
    adaptive = choose("mustdrop", None, options, hidden=hidden)
    assert (adaptive.kept.tolist(), adaptive.num_out) == (choice.kept.tolist(), 14)  # with the CLS
    close(adaptive.arrays["merged"][:2], hidden[[0, 1]].tolist())  # the CLS, then the window


def test_mustdrop_takes_larger_windows_where_k_is_below_their_number():
    hidden = torch.eye(17)
    assert num_out(choose("mustdrop", 1, MustDropOptions(window=2), hidden=hidden)) == 1
    with pytest.raises(UserError, match="a grid of 4 x 4 cannot be cut into windows of 3"):
        choose("mustdrop", None, MustDropOptions(), hidden=hidden)


KEYED = {  # attention 4/11, 3/11, 2/11, 1/11; patch 3 has no direction, the others have one
    "query_cls": [1.0],
    "keys": [[0.0], [math.log(4)], [math.log(3)], [math.log(2)], [0.0]],
    "hidden": [[9.0], [1.0], [10.0], [100.0], [1000.0]],
}


def test_prumerge_adds_the_nearest_and_sums_up_the_rest():
    # The CLS token's key is 0 too: its share of the softmax is 1/11.
    choice = choose("prumerge", 3, PruMergeOptions(neighbours=1), **KEYED)
    assert (choice.kept.tolist(), choice.num_out) == ([0, 1], 3)
    close(choice.arrays["merged"], [[1 + 30 / 11], [10 + 4 / 11], [200 / 11 + 1000 / 11]])


def test_prumergeplus_adds_a_grid():
    even = choose("prumergeplus", 4, PruMergeOptions(), **KEYED)  # no outlier: three of the four
    assert (even.kept.tolist(), even.num_out) == ([0, 2, 3], 4)
    fixed = PruMergeOptions(adaptive=False, reduction_ratio=0.5, published=True)
    twice = choose("prumergeplus", None, fixed, **KEYED)
    assert (twice.kept.tolist(), twice.num_out) == ([0, 1, 1, 3], 5)
    close(twice.arrays["merged"][-1], [0.0])  # patch 2 is lost: one is there twice


def test_prunesid_puts_what_is_like_a_more_attended_patch_last():
    hidden = torch.eye(4)[[3, 0, 0, 1, 2]]  # patches 0 and 1 are equal
    attention = [with_cls([0.4, 0.3, 0.2, 0.1], cls=0.9)]
    arrays = {"hidden": hidden, "attn_cls": attention}
    for budget, kept in ((1, [-1]), (2, [-1, 0]), (3, [-1, 0, 2]), (4, [-1, 0, 2, 3])):
        assert choose("prunesid", budget, PruneSidOptions(), **arrays).kept.tolist() == kept


@pytest.mark.parametrize("pca", ["exact", "lowrank"])
@pytest.mark.parametrize("channels", [4, 3], ids=["many channels", "few channels"])
def test_patches_belong_to_the_component_that_moves_them(pca, channels):
    first, second = [2.0, -2.0, 0.0, 0.0], [0.5, 0.5, -1.0, 0.0]
    samples = torch.tensor([first, first, second, second]).T[:channels][None]
    assert largest_loading(samples, 2, pca).tolist() == [[0, 0, 1, 1]]


def test_visionzip_merges_the_rest_into_every_nth():
    keys = [[0, 0], [1, 0], [1, 0.1], [0, 1], [5, 5], [0.1, 1], [0, 1]]
    hidden = [[0], [1], [10], [100], [1000], [10000], [100000]]
    choice = choose(
        "visionzip",
        4,
        VisionZipOptions(dominant=2, contextual=2),
        attn_cls=[with_cls([0, 0, 0, 1, 0, 0])],
        keys=keys,
        hidden=hidden,
    )
    assert (choice.kept.tolist(), choice.picked.tolist(), choice.num_out) == ([-1, 3], [-1, 3], 4)
    close(choice.arrays["contextual"], [[11], [100 + 110000 / 2]])


def test_visionzip_refuses_a_split_that_is_not_the_budget(images):
    with pytest.raises(UserError, match="9 dominant and 2 contextual tokens are not the 10"):
        PUBLISHED["visionzip"].choose(images, 10, VisionZipOptions(9, 2))


def test_vispruner_removes_even_places_most_like_an_odd_one():
    """By hand: of [1 2 3 4 5] 1 goes, of [5 3 2 4] 2, of [5 3 4] 4."""
    directions = [[0, 0], [7, 7], [1, 0], [1, 0.1], [0, 1], [-1, 0], [1, -1]]
    choice = choose(
        "vispruner",
        3,
        VisPrunerOptions(r=1),
        attn_cls=[with_cls([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])],
        hidden=directions,
    )
    assert choice.picked.tolist() == [0, 5, 3]
    assert choice.kept.tolist() == [0, 3, 5]


def test_vscan_scans_windows_and_the_image_and_merges_the_rest():
    middle = [1.0 if patch in (0, 3, 12, 15) else 0.1 for patch in range(16)]
    deep = [1.0 if patch in (5, 6, 9, 10) else 0.1 for patch in range(16)]
    features = torch.zeros(16, 8)
    for direction, patch in enumerate([0, 3, 12, 15, 5, 6, 9, 10]):
        features[patch, direction] = 1
    for direction, dropped in enumerate([(1, 4), (2, 7), (8, 13), (11, 14)]):
        features[dropped[0], direction], features[dropped[1], direction] = 3, 5
    arrays = {"attn_cls_mid": [with_cls(middle)], "attn_cls": [with_cls(deep)]}
    choice = choose("vscan", 8, VScanOptions(window=2), projected=features, **arrays)
    assert choice.kept.tolist() == [0, 3, 5, 6, 9, 10, 12, 15]
    close(choice.arrays["merged"][0], [3.0] + [0.0] * 7)  # (1 + 3 + 5) / 3
    few = {published: VScanOptions(window=2, published=published) for published in (False, True)}
    found = {key: choose("vscan", 6, few[key], projected=features, **arrays) for key in few}
    assert {key: len(one.kept) for key, one in found.items()} == {False: 6, True: 3}


# Names and settings


def test_an_unknown_pruner_is_refused_with_the_nearest():
    with pytest.raises(
        UserError, match=r"no published pruner 'vispruner2' \(did you mean vispruner"
    ):
        find_published("vispruner2")


@pytest.mark.parametrize(
    "options, given, message",
    [
        (
            VisPrunerOptions,
            {"rr": 1},
            r"no setting rr \(did you mean r\?\): use important_ratio, r",
        ),
        (FasterVlmOptions, {"k": 1}, "no setting k: there are none"),
        (VisPrunerOptions, {"r": 1.5}, "setting r is 1.5; it must be of type int"),
        (VisPrunerOptions, {"r": True}, "setting r is True; it must be of type int"),
        (VisPrunerOptions, {"r": 0}, "setting r is 0; it must be at least 1"),
        (VisPrunerOptions, {"important_ratio": 2}, "at least 0 and at most 1"),
        (VScanOptions, {"window": "6"}, r"it must be of type int \| None"),
    ],
)
def test_a_wrong_setting_is_refused(options, given, message):
    with pytest.raises(UserError, match=message):
        settings_of(options, given)


# Recorded


def same(case, found, dtype, compare, inputs):
    """Whether a choice is what the case recorded, as far as that is stable."""
    ends = "64" if dtype == torch.float64 else ""
    kept = case.get(f"kept{ends}", case["kept"])
    picked = case.get(f"picked{ends}", case["picked"])
    ours = found.kept.tolist()
    if compare == "class":
        classes = [*inputs.read(case["scene"] + "/tie_class").tolist(), -1]  # -1: the CLS token
        return Counter(classes[i] for i in ours) == Counter(classes[i] for i in kept)
    if case.get("n_out", num_out(found)) != num_out(found):
        return False
    if compare == "set":
        return sorted(ours) == sorted(kept)
    if picked is None or ours != kept:
        return ours == kept
    return found.picked.tolist() == (kept if picked == "kept" else picked)


@pytest.fixture(scope="module")
def recorded():
    if not RECORDED.is_dir():
        pytest.skip("the recorded cases of pruners (../shared/golden/pruners) are not here")
    return (
        json.loads((RECORDED / "cases.json").read_text())["cases"],
        Recorded(RECORDED / "inputs.npz"),
        np.load(RECORDED / "outputs.npz"),
    )


@pytest.mark.parametrize(
    "name, dtype",
    [*((name, torch.float32) for name in PUBLISHED), ("vispruner", torch.float64)],
    ids=str,
)
def test_recorded_cases_are_met(recorded, name, dtype):
    cases, inputs, outputs = recorded
    key = "compare64" if dtype == torch.float64 else "compare"
    wrong = []
    for case in cases:
        is_drawn = case["settings"].get("pca") == "lowrank"  # the draws are another torch's
        compare = case.get(key)
        if case["method"] != name or is_drawn or compare not in ("exact", "set", "class"):
            continue
        found = replay_case(case, inputs, dtype)
        if not same(case, found, dtype, compare, inputs):
            wrong.append(case["id"])
        elif compare == "exact" and case.get("arrays_robust"):
            for array in case["arrays"]:
                ours = found.arrays[array.rpartition("/")[2]].float().numpy()
                np.testing.assert_allclose(ours, outputs[array], 1e-3, 1e-3, err_msg=array)
    assert not wrong


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_budget_is_met_where_the_authors_code_fails(recorded, name):
    cases, inputs, _ = recorded
    pruner = PUBLISHED[name]
    for case in cases:
        if case["method"] == name and "error" in case and case["scene"].endswith("s0"):
            arrays = {key: inputs.read(f"{case['scene']}/{key}") for key in pruner.reads}
            budget = case["budget"]
            found = choose(name, budget, pruner.options(), **arrays)
            assert num_out(found) == budget, case["id"]

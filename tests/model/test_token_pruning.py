import pytest
import torch

from llava.errors import UserError
from llava.model.token_pruning.accm import attention_outliers, select_tokens, text_distances
from llava.model.token_pruning.budget import (
    PAPER_BUDGETS,
    Budget,
    default_text_token_num,
    resolve_budget,
)


def select(distances, attention, k, t, seed=0, nearest=False):
    generator = torch.Generator().manual_seed(seed)
    rows = distances[None], attention[None]
    (chosen,) = select_tokens(*rows, [Budget(k, t)], [generator], nearest)
    return chosen


# Twelve patches; the CLS looks at 3 and 8 far more than at the others.
ATTENTION = torch.tensor([0.1] * 12).index_fill(0, torch.tensor([3, 8]), 0.9)
ATTENTION[8] = 0.95
DISTANCES = torch.tensor([0.0, 9, 1, 2, 8, 3, 4, 7, 5, 6, 0.5, 0.6])


def test_a_case_worked_by_hand_with_too_many():
    chosen = select(DISTANCES, ATTENTION, k=3, t=3)
    assert chosen.text_idx.tolist() == [1, 4, 7]  # the three farthest, farthest first
    assert chosen.cls_idx.tolist() == [8, 3]
    assert chosen.n_unique_before_cut == 5  # 1 3 4 7 8
    assert chosen.kept_idx.tolist() == [4, 7, 8]  # the top of the image goes
    assert chosen.uniform_step is None
    assert chosen.dropped_idx.tolist() == [0, 1, 2, 3, 5, 6, 9, 10, 11]


def test_a_case_worked_by_hand_that_the_grid_fills():
    chosen = select(DISTANCES, ATTENTION, k=9, t=3)
    assert chosen.union_idx.tolist() == [1, 3, 4, 7, 8]
    assert chosen.uniform_step == 3  # ceil(12 / 4): 0 3 6 9, of which 3 is taken
    assert chosen.uniform_idx.tolist() == [0, 6, 9]
    # One is still missing: the first of one permutation of what is left.
    order = torch.randperm(4, generator=torch.Generator().manual_seed(0))
    assert chosen.random_idx.tolist() == [[2, 5, 10, 11][order[0]]]
    assert chosen.kept_idx.tolist() == [1, 3, 4, 7, 8, 0, 6, 9, chosen.random_idx.item()]


def test_the_question_may_pick_the_nearest():
    assert select(DISTANCES, ATTENTION, k=3, t=3, nearest=True).text_idx.tolist() == [0, 10, 11]


def test_the_fence():
    # 1..9 and 100: quartiles 3.25 and 7.75, fence 7.75 + 1.5 * 4.5 = 14.5.
    (outliers,) = attention_outliers(torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8, 9, 100]]))
    assert (outliers.q1, outliers.q3, outliers.upper) == (3.25, 7.75, 14.5)
    assert (outliers.n_selected, outliers.ratio, outliers.min_margin) == (1, 0.1, 5.5)


@pytest.mark.parametrize("n", [1, 2, 9, 49, 144, 576])
def test_every_budget_keeps_exactly_so_many_different_patches(n):
    generator = torch.Generator().manual_seed(n)
    distances, attention = torch.rand(n, generator=generator), torch.rand(n, generator=generator)
    attention[: n // 10] += 5
    for k in range(1, n + 1):
        t = resolve_budget(k, None, n).text_token_num
        chosen = select(distances, attention, k, t, seed=k)
        kept = chosen.kept_idx.tolist()
        assert len(kept) == len(set(kept)) == k
        assert sorted(kept + chosen.dropped_idx.tolist()) == list(range(n))


def test_the_seed_decides_only_the_random_part():
    one, same, other = (select(DISTANCES, ATTENTION, 10, 2, seed) for seed in (1, 1, 5))
    assert one.kept_idx.tolist() == same.kept_idx.tolist()
    assert one.random_idx.tolist() != other.random_idx.tolist()
    assert one.union_idx.tolist() == other.union_idx.tolist()


def test_distances_are_those_of_unit_vectors():
    patches = torch.tensor([[[3.0, 0], [0, 5], [-2, 0]]])
    distances = text_distances(patches, torch.tensor([[1.0, 0]]))
    assert torch.allclose(distances, torch.tensor([[0.0, 2, 4]]))


def test_the_papers_budgets_and_the_line_between_them():
    assert {k: default_text_token_num(k) for k in PAPER_BUDGETS} == PAPER_BUDGETS
    assert default_text_token_num(27) == 16  # half way from 12 to 20
    assert default_text_token_num(9) == 6  # half of 18's
    assert default_text_token_num(1) == 1
    assert default_text_token_num(576) == 300  # 288's share


@pytest.mark.parametrize("k", [0, -1, 577, "36", 3.5, None, True])
def test_a_budget_that_cannot_be_says_what_can(k):
    with pytest.raises(UserError, match="visual_token_num .* from 1 to 576"):
        resolve_budget(k, None, 576)


@pytest.mark.parametrize("t", [-1, 577, "20"])
def test_so_does_a_text_budget(t):
    with pytest.raises(UserError, match="text_token_num .* from 0 to 576"):
        resolve_budget(36, t, 576)


def test_the_question_may_pick_nothing():
    assert select(DISTANCES, ATTENTION, k=4, t=0).union_idx.tolist() == [3, 8]

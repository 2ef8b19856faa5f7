import numpy as np
import pytest

from llava.eval.report.statistics import (
    Sampled,
    average,
    difference,
    ratio,
    sampled_means,
)


def test_the_interval_of_a_constant_is_the_constant():
    (sampled,) = sampled_means(np.full((1, 50), 0.25), seed=1)
    assert (sampled.value, sampled.low, sampled.high) == (0.25, 0.25, 0.25)


def test_the_interval_of_a_share_is_the_binomial_one():
    """400 of 1000 right: the normal approximation is 0.4 +- 1.96 sqrt(0.4 * 0.6 / 1000)."""
    (sampled,) = sampled_means(np.array([[1.0] * 400 + [0.0] * 600]), seed=1)
    half = 1.96 * (0.4 * 0.6 / 1000) ** 0.5
    assert sampled.value == 0.4
    assert sampled.low == pytest.approx(0.4 - half, abs=0.003)
    assert sampled.high == pytest.approx(0.4 + half, abs=0.003)


def test_the_ends_are_order_statistics():
    """Of 2000 draws 50 lie below the lower end, and 50 above the upper."""
    draws = np.random.default_rng(0).permutation(2000).astype(float)
    sampled = Sampled(1000.0, draws)
    assert (draws < sampled.low).sum() == 49
    assert (draws > sampled.high).sum() == 49


def test_draws_depend_on_the_seed_and_not_on_other_runs():
    scores = np.random.default_rng(0).random((3, 40))
    alone, among = sampled_means(scores[1:2], seed=5)[0], sampled_means(scores, seed=5)[1]
    np.testing.assert_allclose(alone.draws, among.draws, rtol=1e-12)
    assert not np.allclose(alone.draws, sampled_means(scores[1:2], seed=6)[0].draws)


def test_recovery_is_paired():
    """Where a run is the exact middle of the two others on every question, each draw says 1/2."""
    random = np.random.default_rng(0)
    floor = random.random(200)
    full = floor + random.random(200)
    low, high, middle = sampled_means(np.stack([floor, full, (floor + full) / 2]), seed=0)
    recovered = ratio(difference(middle, low), difference(high, low))
    np.testing.assert_allclose(recovered.draws, 0.5, rtol=1e-12)
    assert recovered.value == pytest.approx(0.5, abs=1e-12)
    assert high.high - high.low > 0.05  # though the scores themselves vary


def test_a_share_of_nothing_is_none():
    assert ratio(Sampled(1.0, np.ones(4)), Sampled(0.0, np.zeros(4))) is None
    assert ratio(Sampled(1.0, np.ones(4)), Sampled(-1.0, np.ones(4))) is None


def test_undefined_draws_widen_the_interval_on_both_sides():
    whole = np.ones(1000)
    whole[:20] = 0  # 2%: the ends are still among the defined ones
    narrow = ratio(Sampled(0.5, np.full(1000, 0.5)), Sampled(1.0, whole))
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    whole[:30] = -1  # 3%
    wide = ratio(Sampled(0.5, np.full(1000, 0.5)), Sampled(1.0, whole))
    assert (wide.low, wide.high) == (-np.inf, np.inf)


def test_an_average_is_drawn_together():
    mean = average([Sampled(1.0, np.array([1.0, 2.0])), Sampled(3.0, np.array([5.0, 4.0]))])
    assert mean.value == 2.0
    assert mean.draws.tolist() == [3.0, 3.0]


def test_nineteen_thousand_questions_fit_in_memory():
    """Blocks: the weights of all draws at once would be 300 MB."""
    import tracemalloc

    scores = np.random.default_rng(0).random((12, 19_000))
    tracemalloc.start()
    sampled_means(scores, seed=0, draws=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6

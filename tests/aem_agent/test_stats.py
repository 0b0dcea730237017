"""Statistics against values computed by hand or taken from the literature."""

from math import isnan, sqrt

import numpy as np
import pytest

from aem_agent.stats import (
    Counts,
    clustered_mean,
    clustered_wilson,
    effective_trials,
    moving_average,
    paired_bootstrap,
    pass_at_k,
    quantile,
    wilson,
)


def test_wilson_textbook_values() -> None:
    # 81 of 263: a worked example of Newcombe 1998, Statistics in Medicine 17:857, table I.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    # 0 of 20 by hand: the upper end is z²/(n + z²).
    z2 = quantile(0.95) ** 2
    assert wilson(0, 20) == pytest.approx((0.0, z2 / (20 + z2)), abs=1e-12)
    assert wilson(20, 20) == pytest.approx((20 / (20 + z2), 1.0), abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson(3, 2)


def test_effective_trials_by_hand() -> None:
    # One attempt each: as many as attempts. Attempts that always agree: as many as tasks.
    assert effective_trials([Counts(1, 1)] * 3 + [Counts(0, 1)] * 5) == pytest.approx(8)
    assert effective_trials([Counts(4, 4)] * 3 + [Counts(0, 4)] * 5) == pytest.approx(8)
    # p = 1/2, residuals ±1, 0: V = 2/36, p(1−p)/V = 4.5.
    assert effective_trials([Counts(2, 2), Counts(1, 2), Counts(0, 2)]) == pytest.approx(4.5)
    # Perfectly alternating attempts cannot be worth more than their number.
    assert effective_trials([Counts(1, 2)] * 4) == 8
    assert effective_trials([Counts(2, 2)] * 4) == 4


def test_clustered_interval_reduces_to_wilson_and_widens_with_correlation() -> None:
    assert clustered_wilson([Counts(1, 1)] * 3 + [Counts(0, 1)] * 5) == pytest.approx(wilson(3, 8))
    clustered = clustered_wilson([Counts(4, 4)] * 3 + [Counts(0, 4)] * 5)
    assert clustered == pytest.approx(wilson(3, 8))
    naive = wilson(12, 32)
    assert clustered.low < naive.low and clustered.high > naive.high
    assert clustered_wilson([]) == (0.0, 1.0)


def test_clustered_interval_covers_at_its_level() -> None:
    rng = np.random.default_rng(7)
    naive = clustered = 0
    for _ in range(600):
        rates = rng.beta(0.6, 0.6, size=60)  # strongly task-dependent success, mean 1/2
        wins = rng.binomial(4, rates)
        low, high = clustered_wilson([Counts(int(w), 4) for w in wins])
        clustered += low <= 0.5 <= high
        low, high = wilson(int(wins.sum()), 240)
        naive += low <= 0.5 <= high
    assert 0.92 <= clustered / 600 <= 0.98
    assert naive / 600 < 0.85


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(5, 2, 1) == pytest.approx(2 / 5)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)  # C(3,2)/C(5,2) = 3/10
    assert pass_at_k(5, 2, 4) == 1.0
    assert pass_at_k(3, 0, 3) == 0.0
    with pytest.raises(ValueError, match="undefined"):
        pass_at_k(2, 1, 3)


def test_paired_bootstrap_uses_the_pairing() -> None:
    hard = [0.0, 1.0] * 50
    same = paired_bootstrap(hard, hard)
    assert same.mean == 0 and same.interval == (0, 0) and same.probability_positive == 0.5
    better = paired_bootstrap([0.2] * 30, [0.5] * 30)
    assert better.mean == pytest.approx(0.3) and better.interval == pytest.approx((0.3, 0.3))
    assert better.probability_positive == 1


def test_paired_bootstrap_interval_matches_the_normal_one_and_repeats() -> None:
    gaps = [1.0] * 60 + [0.0] * 20 + [-1.0] * 20
    first = paired_bootstrap([0.0] * 100, gaps, seed=3)
    half = 1.96 * float(np.std(gaps)) / sqrt(100)
    assert first.mean == pytest.approx(0.4)
    assert first.interval == pytest.approx((0.4 - half, 0.4 + half), abs=0.02)
    assert paired_bootstrap([0.0] * 100, gaps, seed=3) == first
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    paired_bootstrap([0.0] * 100, gaps)
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]


def test_paired_bootstrap_refuses_unpaired_data() -> None:
    for a, b in (([1.0], []), ([], [])):
        with pytest.raises(ValueError, match="same tasks"):
            paired_bootstrap(a, b)


def test_moving_average_by_hand() -> None:
    band = moving_average([1.0, 3.0, 5.0, float("nan")], window=2)
    assert band.mean.tolist() == [1, 2, 4, 5]
    # Window (1, 3): sample deviation √2, standard error 1.
    assert band.high[1] - band.mean[1] == pytest.approx(quantile(0.95))
    assert band.low[0] == band.high[0] == 1
    assert isnan(moving_average([float("nan")], window=3).mean[0])
    with pytest.raises(ValueError, match="window"):
        moving_average([1.0], 0)


def test_clustered_mean_of_zeros_and_ones_is_clustered_wilson() -> None:
    for tasks in ([[1, 0], [0, 0], [1, 1]], [[1], [0], [0]], [[1, 1], [1, 1]], [[0], [0]], [[1, 0], [0, 1]], []):
        counts = [Counts(sum(task), len(task)) for task in tasks]
        assert clustered_mean(tasks) == pytest.approx(clustered_wilson(counts)), tasks


def test_clustered_mean_by_hand() -> None:
    low, high = clustered_mean([[0.25], [0.75]])  # m = ½, V = 2·¼²/4 = 1/32: as 8 flips
    assert (low, high) == pytest.approx(wilson(4, 8))
    assert clustered_mean([[0.25, 0.25], [0.75, 0.75]]) == pytest.approx((low, high)), "repeats that agree say no more"
    assert clustered_mean([[0.5], [0.5]]) == pytest.approx(wilson(1, 2)), "no spread: the number of tasks"
    beyond = clustered_mean([[0.0], [4.0]])  # V = 8/4
    assert beyond == pytest.approx((2 - 1.959964 * 2**0.5, 2 + 1.959964 * 2**0.5), rel=1e-5)
    half = clustered_mean([[x / 100] for x in range(100)])
    assert half.high - half.low == pytest.approx(2 * 1.96 * 0.2887 / 10, rel=0.05), "about ±1.96 standard errors"

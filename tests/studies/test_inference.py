"""Statistics of the study, with values worked out by hand."""

import inference
import numpy as np
import pytest
import student
from inference import (
    average,
    curve,
    detectable,
    deviation,
    holm,
    over_seeds,
    over_seeds_and_tasks,
    sign_flip,
    smallest_p,
    tails,
)

NAN = float("nan")


def test_sign_flip_of_three_seeds() -> None:
    """Sums of ±1 ±2 ±3 are 6, 4, 2, 0 and their opposites; 0 comes twice: 8 in all."""
    assert sign_flip([1, 2, 3]) == 2 / 8  # ±6
    assert sign_flip([-1, 2, 3]) == 4 / 8  # ±6, ±4
    assert sign_flip([1, -2, 3]) == 6 / 8  # ±6, ±4, ±2
    assert sign_flip([1, 2, -3]) == 1.0  # 0 is as far from 0 as anything
    assert sign_flip([0.1, 0.2, -0.3]) == 1.0  # whatever sums of such numbers are
    assert sign_flip([0.0, 0.0, 0.0]) == 1.0 and sign_flip([5.0]) == 1.0
    with pytest.raises(ValueError, match="at least one pair"):
        sign_flip([])


def test_sign_flip_is_exact_for_sixteen_seeds_and_drawn_beyond() -> None:
    assert sign_flip([1.0] * 16) == 2 / 2**16
    assert sign_flip([1.0] * 15 + [-1.0]) == 2 * (1 + 16) / 2**16
    # 20 seeds, 16 above and 4 below: sums of at least 12 in size, 2·(1 + 20 + 190 + 1140 + 4845) of 2^20
    drawn = sign_flip([1.0] * 16 + [-1.0] * 4)
    assert drawn == pytest.approx(2 * 6196 / 2**20, abs=4 * (0.0118 * 0.9882 / 100_000) ** 0.5)
    assert drawn == sign_flip([1.0] * 16 + [-1.0] * 4)
    assert sign_flip([1.0] * 40) == 1 / 100_001  # never zero


@pytest.mark.parametrize("base", [1002, 1039])
def test_ties_survive_the_rounding_of_tables(base: int) -> None:
    """Of 3,840 episodes an arm won 1, 2 and 3 more, and 4 less: 2 in all, as far as −1 + 2 − 3 + 4.

    Only 1 − 2 − 3 + 4 and its opposite are nearer to zero: 14/16. Tables keep 6 digits of a share.
    """
    rounded = [float(f"{(base + k) / 3840:.6g}") - float(f"{base / 3840:.6g}") for k in (1, 2, 3, -4)]
    assert sign_flip(rounded) == 14 / 16
    assert sign_flip(rounded, error=0.0) == (12 / 16 if base == 1002 else 14 / 16)
    assert sign_flip([1e-3, 2e-3, 3e-3]) == 2 / 8  # what is farther apart than rounding is no tie


def test_smallest_p_is_what_the_test_gives() -> None:
    for n in (1, 6, 16, 40):
        assert sign_flip([0.5] * n) == smallest_p(n)
    assert smallest_p(6) == 2 / 64 and smallest_p(20) == 1 / 100_001


def test_holm_by_hand() -> None:
    """0.01·4, 0.02·3, 0.03·2 and 0.04·1 raised to the one before; 0.06 stands first, 0.06 = 0.06, then 0.06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    # one that was not made counts all the same
    assert holm([0.01, None, 0.02]) == [pytest.approx(0.03), None, pytest.approx(0.04)]
    assert holm([None]) == [None] and holm([]) == []


def test_students_t_is_that_of_tables() -> None:
    for degrees, value in {1: 12.706, 2: 4.303, 5: 2.571, 9: 2.262, 15: 2.131, 60: 2.000}.items():
        assert student.quantile(0.975, degrees) == pytest.approx(value, abs=5e-4)
        assert student.quantile(0.025, degrees) == pytest.approx(-value, abs=5e-4)
    # with one degree it is Cauchy's, 1/2 + atan(t)/π; with two 1/2 + t/(2√(2 + t²))
    assert student.cdf(1.0, 1) == pytest.approx(0.75, abs=1e-15)
    assert student.cdf(3.0, 2) == pytest.approx(0.5 + 3 / (2 * 11**0.5), abs=1e-15)
    assert student.quantile(0.5, 7) == pytest.approx(0.0, abs=1e-15)
    with pytest.raises(ValueError, match="at least one degree"):
        student.cdf(0.0, 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        student.quantile(1.0, 3)


def test_tails_by_hand() -> None:
    """Ten seeds: 2.262157·√(10/9) = 2.384523, below which lie 0.85506 % of normal values."""
    assert tails(0.95, 10) == pytest.approx((0.0085506, 1 - 0.0085506), abs=2e-7)
    assert tails(0.95, 10_000) == pytest.approx((0.025, 0.975), abs=1e-4)


def test_bootstrap_over_six_seeds() -> None:
    """Draws of six from three 0 and three 1: none is 1 in 1/64, two or fewer in 22/64, three or fewer in 42/64.

    The tails are 0.24 % at level 0.95, and 38.5 % at level 0.2 (Student's 0.26718·√(6/5) = 0.29268).
    """
    values = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    found = over_seeds(values)
    assert found.mean == 0.5 and found.interval == (0.0, 1.0)
    assert tails(0.2, 6)[0] == pytest.approx(0.3849, abs=1e-4)
    assert over_seeds(values, level=0.2).interval == (0.5, 0.5)
    assert over_seeds([0.2] * 6).interval == pytest.approx((0.2, 0.2))


def test_no_interval_below_six_seeds() -> None:
    assert over_seeds([0.3]) == (0.3, None) and over_seeds([0.0, 0.5, 0.5, 0.5, 1.0]) == (0.5, None)
    assert over_seeds_and_tasks(np.ones((5, 3))) == (1.0, None)


def test_intervals_of_ten_seeds_cover_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand sets of ten normal values, in one curve: the plain percentile interval covers some 90 %."""
    values = np.random.default_rng(0).standard_normal((10, 1000))

    def coverage() -> float:
        found = curve(values, resamples=4000)
        return float(np.mean((found.low <= 0) & (found.high >= 0)))

    expanded = coverage()
    monkeypatch.setattr(inference, "tails", lambda level, n: ((1 - level) / 2, (1 + level) / 2))
    plain = coverage()
    assert abs(expanded - 0.95) < 0.02 and plain < 0.92 and abs(expanded - 0.95) < abs(plain - 0.95)


def test_bootstrap_over_many_seeds_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(3).standard_normal(400)
    found = over_seeds(values.tolist())
    half = 1.96 * values.std() / 20
    assert found.interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_hierarchical_bootstrap_where_only_one_side_varies() -> None:
    """Seeds that differ, tasks that do not: as over seeds alone; and the other way round."""
    half = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    seeds = np.repeat(np.array(half)[:, None], 3, axis=1)
    assert over_seeds_and_tasks(seeds) == over_seeds(half) == (0.5, (0.0, 1.0))
    tasks = np.repeat([half], 6, axis=0)
    assert over_seeds_and_tasks(tasks) == (0.5, (0.0, 1.0))
    assert over_seeds_and_tasks(tasks, level=0.2) == (0.5, (0.5, 0.5))
    assert over_seeds_and_tasks(np.full((6, 5), -1.0)) == (-1.0, (-1.0, -1.0))


def test_hierarchical_bootstrap_is_wider_than_over_seeds_alone() -> None:
    """Luck with the tasks is common to all seeds: means of seeds agree, and yet other tasks would give another mean."""
    common = np.tile(np.random.default_rng(0).integers(-1, 2, 50).astype(float), (8, 1))
    low, high = over_seeds_and_tasks(common).interval or (0, 0)
    half = 2.3646 * (8 / 7) ** 0.5 * common[0].std() / 50**0.5  # the tails are those of eight seeds
    assert (low, high) == pytest.approx((common.mean() - half, common.mean() + half), abs=0.12 * half)
    low, high = over_seeds(common.mean(axis=1).tolist()).interval or (1, 0)
    assert high - low < 1e-12


def test_attempts_that_were_not_completed_are_left_out() -> None:
    found = over_seeds_and_tasks(np.array([[1.0, NAN, 0.0], [1.0, 1.0, NAN]] * 3))
    assert found.mean == pytest.approx((0.5 + 1) / 2) and found.interval is not None
    assert 0 <= found.interval.low <= found.mean <= found.interval.high <= 1
    with pytest.raises(ValueError, match="every seed needs an outcome"):
        over_seeds_and_tasks(np.array([[1.0], [NAN]]))
    with pytest.raises(ValueError, match="every seed needs an outcome"):
        over_seeds([])


def test_deviation_and_detectable_difference() -> None:
    assert deviation([1, 2, 3]) == 1.0 and deviation([1.0]) is None
    # with 15 degrees of freedom, 2.131450 + 0.866245, · 2/√16
    assert detectable(2.0, 16, level=0.05) == pytest.approx(2.997695 / 2, rel=1e-6)
    assert detectable(2.0, 16, level=0.05, power=0.5) == pytest.approx(2.131450 / 2, rel=1e-6)
    strict = detectable(2.0, 16, level=0.05 / 6)
    assert strict is not None and strict > 2.997695 / 2
    # 2/2^7 is above 0.05/6, 2/2^8 below; with five pairs no level of use is reached
    assert detectable(2.0, 7, level=0.05 / 6) is None and detectable(2.0, 8, level=0.05 / 6) is not None
    assert detectable(2.0, 5, level=0.05) is None and detectable(2.0, 6, level=0.05) is not None
    assert detectable(2.0, 5, level=0.5) is None


def test_curve_over_seeds_and_its_gaps() -> None:
    """Of seven seeds all, six and five have a value; five are too few for a band."""
    values = np.full((7, 4), NAN)
    values[:, 0] = 1.0
    values[:6, 1] = (0, 0, 0, 1, 1, 1)
    values[:5, 2] = 3.0
    found = curve(values)
    assert found.mean.tolist() == pytest.approx([1.0, 0.5, 3.0, NAN], nan_ok=True)
    assert found.low.tolist() == pytest.approx([1.0, 0.0, NAN, NAN], nan_ok=True)
    assert found.high.tolist() == pytest.approx([1.0, 1.0, NAN, NAN], nan_ok=True)
    assert average(values).tolist() == pytest.approx(found.mean.tolist(), nan_ok=True)
    whole = np.random.default_rng(0).random((8, 2))
    band = curve(whole)
    assert over_seeds(whole[:, 1].tolist()).interval == pytest.approx((band.low[1], band.high[1]))

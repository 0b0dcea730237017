"""Intervals and tests of paired runs. Pure functions over arrays; a run is one seed's, and pairs share a seed.

Draws come from Generators of their own, so that equal results give equal figures.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import student
from numpy.typing import NDArray

from aem_agent.stats import Interval

Array = NDArray[np.float64]

EXACT_UP_TO = 16
"""Pairs whose 2^n assignments of signs are all looked at."""
DRAWS = 100_000
"""Assignments of signs that are drawn where there are more pairs."""
ROUNDING = 1e-6
"""How far the difference of two shares may be off, as tables keep 6 digits of each."""
LEAST = 6
"""Seeds below which there is no interval: of fewer, none that is made of them alone is worth its name."""


class Estimate(NamedTuple):
    """A mean over seeds, and its interval: none below `LEAST` seeds."""

    mean: float
    interval: Interval | None


def over_seeds(values: Sequence[float], *, resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean of one value for each seed, with the expanded percentile bootstrap over seeds (`tails`). Of pairs, `values`
    are differences.

    Intervals at 95 % that held the true mean, of 10,000 each, and of the plain percentile bootstrap beside them:

        seeds             6             10             16
        normal            93.7 (86.1)   94.6 (90.1)    94.8 (92.0) %
        exponential       89.2 (81.1)   90.6 (86.0)    91.7 (89.0) %

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, §13.3.

    Raises:
        ValueError: no value.
    """
    return over_seeds_and_tasks(np.asarray(values, dtype=np.float64)[:, None], resamples, level, seed)


def tails(level: float, n: int) -> tuple[float, float]:
    """Quantiles of bootstrap means of n seeds that are the ends of an interval: farther out than `level` says.

        Φ(∓ √(n/(n − 1)) · t_((1 + level)/2, n − 1))            0.9 % and 99.1 % for 95 % of 10 seeds

    Bootstrap means of n values spread too little by √((n − 1)/n), and few values need Student's t. Drawn out so, the
    interval of normal values is that of Student, and skewed ones keep their lopsided ends.

    Source: Hesterberg 2015, The American Statistician 69:371 (the expanded percentile interval).
    """
    low = NormalDist().cdf(-sqrt(n / (n - 1)) * student.quantile((1 + level) / 2, n - 1))
    return low, 1 - low


def over_seeds_and_tasks(outcomes: Array, resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean over seeds of the mean over tasks, with an interval for other seeds *and* other tasks.

    outcomes: [seeds, tasks], one for each seed's attempt at each task, NaN where it was not completed; of pairs, the
    differences of the two arms' attempts at the same task under the same seed. All seeds have the same tasks, so both
    are drawn with replacement, each on its own, and every seed that is drawn has the tasks that were drawn: both arms
    always have the same seeds and tasks. A bootstrap within each seed would take the tasks of each for new ones, and
    miss what the arms' luck with these tasks adds. This one errs to the wide side; its ends are those of `tails`, as
    seeds are few.

    Source: Owen 2007, Annals of Applied Statistics 1:386 (the pigeonhole bootstrap for crossed samples).

    Raises:
        ValueError: no outcome for some seed.
    """
    known = np.isfinite(outcomes)
    if not outcomes.size or not known.any(axis=1).all():
        raise ValueError("every seed needs an outcome")
    n, tasks = outcomes.shape
    filled = np.where(known, outcomes, 0.0)
    mean = float((filled.sum(axis=1) / known.sum(axis=1)).mean())
    if n < LEAST:
        return Estimate(mean, None)
    drawn = _drawn(tasks, resamples, seed + 1)
    count = drawn @ known.T.astype(np.float64)
    of_seed = np.divide(drawn @ filled.T, count, out=np.zeros((resamples, n)), where=count > 0)
    weight = _drawn(n, resamples, seed) * (count > 0)  # a seed that completed none of the tasks drawn has no mean
    total = weight.sum(axis=1)
    means = (weight * of_seed).sum(axis=1)[total > 0] / total[total > 0]
    low, high = np.quantile(means, tails(level, n))
    return Estimate(mean, Interval(float(low), float(high)))


@lru_cache(maxsize=8)
def _drawn(n: int, resamples: int, seed: int) -> Array:
    """How often each of n things is drawn in n draws with replacement: [resamples, n]. Whole numbers alone decide."""
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def sign_flip(differences: Sequence[float], *, draws: int = DRAWS, seed: int = 0, error: float = ROUNDING) -> float:
    """Two-sided p-value of the hypothesis that arm and baseline could be exchanged within each pair.

    Under it every difference has either sign with equal chance: p is the share of all 2^n assignments of signs whose
    mean is at least as far from zero as the observed one. Exact up to n = 16; beyond that (1 + k)/(1 + draws), k of
    `draws` random assignments being as far. Never below `smallest_p`: five seeds cannot give less than 0.0625.

    Each difference may be off by `error`, and so two sums of n by 2n of that: sums that are closer count as equally
    far. This keeps ties that rounding has parted, and can only make p larger.

    Sources: Fisher 1935, The Design of Experiments, §21; Phipson & Smyth 2010, arXiv 1603.05766 (1 + k).

    Raises:
        ValueError: no difference.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if not n:
        raise ValueError("a test needs at least one pair")
    least = abs(values.sum()) - 2 * n * error
    if n <= EXACT_UP_TO:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ values) >= least))
    rng = np.random.default_rng(seed)
    far = 0
    for begin in range(0, draws, 10_000):
        signs = 1 - 2 * rng.integers(0, 2, (min(10_000, draws - begin), n))
        far += int(np.sum(np.abs(signs @ values) >= least))
    return (1 + far) / (1 + draws)


def smallest_p(n: int) -> float:
    """What `sign_flip` gives where all n differences have one sign, and none is zero."""
    return 2.0 / 2**n if n <= EXACT_UP_TO else 1 / (1 + DRAWS)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected so that the chance of any false finding among them all stays below the level.

    In rising order, the i-th of m (from 0) is multiplied by m − i, made no smaller than the one before, and at most 1.
    None, a comparison that was registered and not made, stays None and counts in m.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        corrected[i] = largest
    return corrected


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation with n − 1; None below two values."""
    return float(np.std(np.asarray(values, dtype=np.float64), ddof=1)) if len(values) > 1 else None


def detectable(sd: float, n: int, *, level: float, power: float = 0.8) -> float | None:
    """The smallest true difference that a two-sided test of n pairs at `level` finds with `power`:

        (t_(1−level/2, n−1) + t_(power, n−1)) · sd / √n

    With the observed standard deviation of the differences for the true one: a guide. `level` is what one p-value has
    to be below: of m that Holm corrects, the smallest 0.05/m. None where no p-value of n pairs is so small.

    Found, of 2,000 sets of normal differences of that size at 0.05/6 (400 sets for 16 pairs): 65 % with 8 pairs, 74 %
    with 10, 80 % with 16 (`sign_flip` has few p-values to give where pairs are few).

    Sources: Cohen 1988, Statistical Power Analysis, ch. 2; Student's t in place of the normal distribution, which for
    ten pairs and 0.05/6 would give a fifth less.
    """
    if n < LEAST or smallest_p(n) >= level:
        return None
    return (student.quantile(1 - level / 2, n - 1) + student.quantile(power, n - 1)) * sd / sqrt(n)


class Curve(NamedTuple):
    """Mean over seeds at each step, and its pointwise interval."""

    mean: Array
    low: Array
    high: Array


def average(values: Array) -> Array:
    """Mean over seeds of `values` [seeds, steps]; NaN are left out, and given where no seed has a value."""
    known = np.isfinite(values)
    mean = np.full(values.shape[1], np.nan)
    there = known.any(axis=0)
    mean[there] = np.where(known, values, 0.0).sum(axis=0)[there] / known.sum(axis=0)[there]
    return mean


def curve(values: Array, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> Curve:
    """Mean over seeds of `values` [seeds, steps] and its pointwise interval, as of `over_seeds`; NaN are left out.

    Where fewer than `LEAST` seeds have a value the band is NaN: it is not drawn.
    """
    known = np.isfinite(values)
    low, high = (np.full(values.shape[1], np.nan) for _ in range(2))
    seeds = known.sum(axis=0)
    weights = _drawn(len(values), resamples, seed)
    for n in np.unique(seeds[seeds >= LEAST]).tolist():
        there = seeds == n
        count = weights @ known[:, there].astype(np.float64)
        total = weights @ np.where(known, values, 0.0)[:, there]
        drawn = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
        quantiles = np.nanquantile if n < len(values) else np.quantile
        low[there], high[there] = quantiles(drawn, tails(level, n), axis=0)
    return Curve(average(values), low, high)

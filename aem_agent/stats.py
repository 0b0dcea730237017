"""Statistics of evaluations: intervals, pass@k, paired differences, moving averages. Pure functions, numpy only.

Two things set evaluations of agents apart from coin flips: attempts at one task resemble each other, so they are
clustered by task here; and two runs on the same tasks are compared pairwise, which removes the tasks' difficulty.
"""

from collections.abc import Sequence
from math import comb, isfinite, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """A confidence interval, ends included."""

    low: float
    high: float


class Counts(NamedTuple):
    """Outcomes of one task: `successes` of `trials` attempts."""

    successes: int
    trials: int


class Difference(NamedTuple):
    """Mean of b − a over common tasks, its interval, and the share of resamples above zero (ties count half)."""

    mean: float
    interval: Interval
    probability_positive: float


class Band(NamedTuple):
    """A smoothed curve and its pointwise band; all three of the input's length."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def quantile(level: float) -> float:
    """The standard normal quantile of a two-sided interval: 1.96 at level 0.95."""
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; (0, 1) when n = 0.

        (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)

    Source: Wilson 1927, JASA 22:209. `n` may be fractional (an effective sample size).

    Raises:
        ValueError: successes outside [0, n].
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials are impossible")
    if n == 0:
        return Interval(0.0, 1.0)
    z, p = quantile(level), successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At p = 0 and 1 the near end is exactly p; rounding must not push it outside.
    return Interval(0.0 if p == 0 else max(0.0, middle - half), 1.0 if p == 1 else min(1.0, middle + half))


def effective_trials(tasks: Sequence[Counts]) -> float:
    """How many independent trials clustered ones are worth: p(1−p)/V with the cluster-robust variance

        V = Σ_k (s_k − n_k p)² / N²,   p = Σ s_k / N,   N = Σ n_k,

    never more than N. With one attempt per task this is N; where attempts at a task always agree, the number of tasks.
    When every attempt succeeds or every one fails the data cannot tell, and the number of tasks is assumed.

    Sources: Liang & Zeger 1986 (V); Korn & Graubard 1998 (effective sample size in a proportion's interval).
    """
    tasks = [task for task in tasks if task.trials]
    total = sum(task.trials for task in tasks)
    successes = sum(task.successes for task in tasks)
    if successes in (0, total):
        return float(len(tasks))
    p = successes / total
    variance = sum((task.successes - task.trials * p) ** 2 for task in tasks) / total**2
    return min(float(total), p * (1 - p) / variance) if variance else float(total)


def clustered_wilson(tasks: Sequence[Counts], level: float = 0.95) -> Interval:
    """Wilson's interval of the success rate of all attempts, at the effective number of trials of `effective_trials`.

    Source: Dean & Pagano 2015, J. Survey Statistics and Methodology 3:484 (Wilson with an effective n holds its level
    in clustered samples). Equals `wilson` when each task was tried once.
    """
    total = sum(task.trials for task in tasks)
    if not total:
        return Interval(0.0, 1.0)
    n = effective_trials(tasks)
    return wilson(n * (sum(task.successes for task in tasks) / total), n, level)


def clustered_mean(tasks: Sequence[Sequence[float]], level: float = 0.95) -> Interval:
    """Interval of the mean of all values, clustered by task; `tasks[k]` are the values of one task's attempts.

    Values in [0, 1]: Wilson's interval at the number of coin flips whose mean m would vary as much, m(1−m)/V, with

        V = max(Σ_k (Σ_i (x_ki − m))², Σ_ki (x_ki − m)²) / N²

    so that values of 0 and 1 give `clustered_wilson`. Where V is 0 the data cannot tell, and the number of tasks is
    assumed. Values beyond [0, 1]: m ± z √V. (0, 1) without values.
    """
    values = [value for task in tasks for value in task]
    if not values:
        return Interval(0.0, 1.0)
    total, mean = len(values), sum(values) / len(values)
    clustered = sum(sum(value - mean for value in task) ** 2 for task in tasks)
    variance = max(clustered, sum((value - mean) ** 2 for value in values)) / total**2
    if not all(0 <= value <= 1 for value in values):
        half = quantile(level) * sqrt(variance)
        return Interval(mean - half, mean + half)
    n = mean * (1 - mean) / variance if variance else float(sum(map(bool, tasks)))
    return wilson(min(n * mean, n), n, level)


def pass_at_k(trials: int, successes: int, k: int) -> float:
    """Chance that at least one of k attempts drawn from `trials` succeeds, unbiased: 1 − C(n−c, k)/C(n, k).

    Source: Chen et al. 2021, arXiv 2107.03374.

    Raises:
        ValueError: unless 1 ≤ k ≤ trials and 0 ≤ successes ≤ trials.
    """
    if not (1 <= k <= trials and 0 <= successes <= trials):
        raise ValueError(f"pass@{k} of {successes} successes in {trials} trials is undefined")
    return 1.0 - comb(trials - successes, k) / comb(trials, k)


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Difference:
    """Percentile bootstrap over tasks of mean(b − a); `a[i]` and `b[i]` are two runs' means on the same task.

    Source: Efron & Tibshirani 1993, §13.3. Draws come from a Generator of its own, so equal inputs give equal results.
    Where every task differs by the same amount the interval has no width: it then says nothing of tasks not played.

    Raises:
        ValueError: different lengths, or no task.
    """
    gaps = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64) if len(a) == len(b) else np.empty(0)
    if not gaps.size:
        raise ValueError(f"a paired comparison needs the same tasks on both sides, got {len(a)} and {len(b)}")
    rng = np.random.default_rng(seed)
    chunk = max(1, 2_000_000 // gaps.size)  # bounds memory at a few ten megabytes
    sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    means = np.concatenate([gaps[rng.integers(0, gaps.size, (size, gaps.size))].mean(axis=1) for size in sizes])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    positive = float(np.mean(means > 0) + np.mean(means == 0) / 2)
    return Difference(float(gaps.mean()), Interval(float(low), float(high)), positive)


def moving_average(values: Sequence[float], window: int, level: float = 0.95) -> Band:
    """Mean of the last `window` values at each point, ± z standard errors of that mean (zero wide for a single value).

    Non-finite values are left out; where a window has none left the result is NaN.

    Raises:
        ValueError: a window below 1.
    """
    if window < 1:
        raise ValueError(f"a moving average needs a window of at least 1, got {window}")
    z, means, halves = quantile(level), [], []
    for end in range(1, len(values) + 1):
        part = np.array([v for v in values[max(0, end - window) : end] if isfinite(v)], dtype=np.float64)
        means.append(float(part.mean()) if part.size else float("nan"))
        halves.append(z * float(part.std(ddof=1)) / sqrt(part.size) if part.size > 1 else 0.0)
    mean, half = np.array(means, dtype=np.float64), np.array(halves, dtype=np.float64)
    return Band(mean, mean - half, mean + half)

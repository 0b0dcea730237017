"""How two columns of figures go together: correlation with its interval, signs, trends. Plain numbers, numpy only."""

from collections.abc import Mapping, Sequence
from math import atanh, cos, inf, isfinite, nan, pi, sin, sqrt, tan, tanh
from typing import Any, NamedTuple

import numpy as np

from aem_agent.stats import Interval, quantile, wilson


def column(records: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """One value of each record; NaN where it has none."""
    return [nan if r.get(name) is None else float(r[name]) for r in records]


class Correlation(NamedTuple):
    """Pearson's r, its interval, and the number of pairs."""

    r: float
    interval: Interval
    n: int

    def __str__(self) -> str:
        if not isfinite(self.r):
            return "no correlation: one of them does not vary"
        return f"r = {self.r:+.2f} (95 % interval {self.interval.low:+.2f} to {self.interval.high:+.2f}, n = {self.n})"


class Agreement(NamedTuple):
    """In how many of the pairs that have signs both have the same."""

    same: int
    n: int
    expected: float
    """How many would, did they not depend on each other: from how often each of the two is positive."""

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval of the share."""
        return wilson(self.same, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        if not self.n:
            return "0 of 0"
        share = f"{100 * self.same / self.n:.0f} %, interval {100 * low:.0f} to {100 * high:.0f} %"
        return f"{self.same} of {self.n} ({share}; {self.expected:.1f} expected by chance)"


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson's r of the pairs in which both are finite, with Fisher's interval tanh(atanh r ± 1.96/√(n − 3)).

    NaN where one of them does not vary; below four pairs the interval is (−1, 1). Pairs are taken as independent.
    """
    pairs = np.array([(a, b) for a, b in zip(x, y, strict=True) if isfinite(a) and isfinite(b)], dtype=np.float64)
    n = len(pairs)
    if n < 2:
        return Correlation(nan, Interval(-1.0, 1.0), n)
    centred = pairs - pairs.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    if not (size > 1e-12 * np.abs(pairs).max(axis=0)).all():
        return Correlation(nan, Interval(-1.0, 1.0), n)
    r = float(np.clip((centred[:, 0] / size[0]) @ (centred[:, 1] / size[1]), -1, 1))
    if n < 4 or abs(r) > 1 - 1e-12:
        return Correlation(r, Interval(-1.0, 1.0) if n < 4 else Interval(r, r), n)
    half = quantile(0.95) / sqrt(n - 3)
    return Correlation(r, Interval(tanh(atanh(r) - half), tanh(atanh(r) + half)), n)


def agreement(x: Sequence[float], y: Sequence[float]) -> Agreement:
    """Of the pairs of finite numbers other than zero, those of one sign. With the shares p and q of positive ones,
    n·(p·q + (1 − p)·(1 − q)) are expected by chance."""
    pairs = [(a > 0, b > 0) for a, b in zip(x, y, strict=True) if isfinite(a) and isfinite(b) and a != 0 and b != 0]
    n = len(pairs)
    p, q = (sum(side) for side in zip(*pairs)) if pairs else (0, 0)
    return Agreement(sum(a == b for a, b in pairs), n, (p * q + (n - p) * (n - q)) / max(1, n))


class Trend(NamedTuple):
    """A slope per step and its standard error, from `n` steps."""

    slope: float
    error: float
    n: int

    @property
    def interval(self) -> Interval:
        """95 %, by Student's t with n − 2 degrees of freedom; without end below three steps."""
        if self.n < 3:
            return Interval(-inf, inf)
        half = student_quantile(self.n - 2) * self.error
        return Interval(self.slope - half, self.slope + half)

    def __str__(self) -> str:
        if not isfinite(self.slope):
            return "unknown"
        return f"{self.slope:+.4f}" + (f" ± {self.error:.4f}" if isfinite(self.error) else "")


def trend(values: Sequence[float]) -> Trend:
    """The least-squares line through `values` at 0, 1, 2, …; what is not finite is left out. No slope below two values,
    no error below three.

    The error is the usual one, √(Σ e²/(n − 2)) / √Σ (x − x̄)², times √((1 + r)/(1 − r)) where residuals e that follow
    each other have a correlation r > 0: what a training does in one step it rarely takes back in the next.
    """
    points = [(i, v) for i, v in enumerate(values) if isfinite(v)]
    n = len(points)
    if n < 2:
        return Trend(nan, nan, n)
    place, value = np.array(points, dtype=np.float64).T
    place = place - place.mean()
    slope = place @ value / (place @ place)
    if n < 3:
        return Trend(float(slope), nan, n)
    left = value - value.mean() - slope * place
    squares = float(left @ left)
    r = min(max(float(left[1:] @ left[:-1]) / squares, 0.0), 0.9) if squares else 0.0
    error = sqrt(squares / (n - 2) / float(place @ place) * (1 + r) / (1 - r))
    return Trend(float(slope), error, n)


def student_quantile(freedom: int, level: float = 0.95) -> float:
    """Student's t of a two-sided interval: 12.706 at one degree of freedom, near 1.96 at many.

    P(|T| < √ν·tan θ) is a finite sum for whole ν, and rises with θ: halved until it is `level`.
    Source: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return sqrt(freedom) * tan(low)


def _within(angle: float, freedom: int) -> float:
    odd = freedom % 2
    term, total = (cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * cos(angle) ** 2
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total

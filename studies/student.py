"""Student's t distribution with a whole number of degrees of freedom, to the last digits, without scipy."""

from functools import lru_cache
from math import atan2, cos, pi, sin, sqrt


def cdf(t: float, degrees: int) -> float:
    """Chance of a value below t: a finite sum, where the degrees are whole, in θ = atan(t/√degrees).

        odd   1/2 + (θ + sin θ (cos θ + 2/3 cos³ θ + … + 2·4…(d − 3)/(3·5…(d − 2)) cos^(d−2) θ))/π
        even  1/2 + sin θ (1 + 1/2 cos² θ + … + 1·3…(d − 3)/(2·4…(d − 2)) cos^(d−2) θ)/2

    Source: Abramowitz & Stegun 1964, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.

    Raises:
        ValueError: degrees below 1.
    """
    if degrees < 1:
        raise ValueError(f"Student's t needs at least one degree of freedom, got {degrees}")
    theta = atan2(t, sqrt(degrees))
    odd = degrees % 2
    term, total = cos(theta) if odd else 1.0, 0.0
    for power in range(odd, degrees - 1, 2):  # `term`: that of cos^power
        total += term
        term *= cos(theta) ** 2 * (power + 1) / (power + 2)
    return 0.5 + ((theta + sin(theta) * total) / pi if odd else sin(theta) * total / 2)


@lru_cache
def quantile(p: float, degrees: int) -> float:
    """The value below which lies a share p, by halving: 2.262 for p = 0.975 and 9 degrees.

    Raises:
        ValueError: p outside (0, 1), or degrees below 1.
    """
    if not 0 < p < 1:
        raise ValueError(f"a quantile needs a share between 0 and 1, got {p}")
    low, high = -1.0, 1.0
    while cdf(low, degrees) > p:
        low *= 2
    while cdf(high, degrees) < p:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle, degrees) < p else (low, middle)
    return (low + high) / 2

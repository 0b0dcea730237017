"""What the raw results of a study say: means of its arms and the registered contrasts, each with its uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import NamedTuple

import numpy as np
from designs import Study
from inference import (
    Array,
    Estimate,
    detectable,
    deviation,
    holm,
    over_seeds,
    over_seeds_and_tasks,
    sign_flip,
)
from tables import Row

LETTERS = {"1": 1.0, "0": 0.0, "-": nan}
"""Of a held-out task: won, lost, not completed."""
LEVEL = 0.05
"""Corrected p-values are to be below it."""
FIRST = "success"
"""Column of the endpoint that decides what was predicted; all others describe."""


class MixedResults(ValueError):
    """Rows that cannot stand in one table; the message says which, and what to do."""


class Endpoint(NamedTuple):
    """One figure of a run by which arms are judged."""

    column: str
    name: str
    won: str | None = None
    """The column of its outcomes by task, where it has them."""


@dataclass(frozen=True)
class Contrast:
    """An arm less its baseline, by one endpoint, over the seeds that both have."""

    arm: str
    baseline: str
    endpoint: str
    seeds: tuple[int, ...]
    difference: Estimate | None = None
    p: float | None = None
    p_corrected: float | None = None
    sd: float | None = None
    """Of the differences of seeds."""
    level: float | None = None
    """What p is to be below if no other of its family is: Holm's strictest step."""
    detectable: float | None = None
    """The difference found at that level four times out of five."""
    predicted: int = 0
    """1: the arm is to do better; −1: worse; 0: nothing was said."""
    complete: bool = False
    """All registered seeds are in."""
    holds: bool | None = None
    """What was predicted, by the first endpoint; None where nothing was, or while its family is not complete."""

    def to_json(self) -> dict[str, object]:
        """All of it, with the interval's ends by name."""
        interval = self.difference.interval if self.difference else None
        return {
            "arm": self.arm,
            "baseline": self.baseline,
            "endpoint": self.endpoint,
            "n": len(self.seeds),
            "seeds": list(self.seeds),
            "difference": _rounded(self.difference.mean if self.difference else None),
            "low": _rounded(interval.low if interval else None),
            "high": _rounded(interval.high if interval else None),
            "p": _rounded(self.p),
            "p_corrected": _rounded(self.p_corrected),
            "sd": _rounded(self.sd),
            "level": _rounded(self.level),
            "detectable_80": _rounded(self.detectable),
            "predicted": self.predicted,
            "holds": self.holds,
        }


def endpoints(study: Study) -> list[Endpoint]:
    """In the order in which they are reported."""
    held_out = [
        Endpoint(f"heldout_{t:g}", f"held-out success, temperature {t:g}", f"won_{t:g}") for t in study.temperatures
    ]
    training = Endpoint(FIRST, "success over training")
    return [training, *held_out, Endpoint("success_last_quarter", "success in the last quarter")]


def by_arm(study: Study, runs: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """Rows by arm, in the study's order, and seed; only those that are registered.

    Raises:
        MixedResults: two rows of one arm and seed, runs of one arm with different settings, or of different tasks.
    """
    found: dict[str, dict[int, Row]] = {arm: {} for arm in study.arms}
    for row in runs:
        arm, seed = row["arm"], int(row["seed"])
        if arm not in found or seed not in study.seeds:
            continue
        if seed in found[arm]:
            raise MixedResults(f"{study.name} {arm} {seed} has two rows in runs.csv: remove one")
        found[arm][seed] = row
    for arm, rows in found.items():
        if len({row["settings"] for row in rows.values()}) > 1:
            raise MixedResults(f"{study.name} {arm}: runs of different settings: move the old rows away, run again")
    for won in (e.won for e in endpoints(study) if e.won):
        if len({len(row[won]) for rows in found.values() for row in rows.values()}) > 1:
            raise MixedResults(
                f"{study.name}: {won} has rows of different numbers of tasks: run the shorter ones again"
            )
    return found


def estimate(rows: Mapping[int, Row], endpoint: Endpoint) -> Estimate | None:
    """Mean of one arm over its seeds; None without any."""
    values = [_values(rows[seed], endpoint) for seed in sorted(rows)]
    return _estimated(values, endpoint) if values else None


def contrasts(study: Study, arms: Mapping[str, Mapping[int, Row]], endpoint: Endpoint) -> list[Contrast]:
    """All that are registered, by one endpoint; those without a common seed have no figures. Not corrected yet."""
    found = [_contrast(arm, base, arms[arm], arms[base], endpoint) for arm, base in study.contrasts]
    signs = study.signs or (0,) * len(found)
    return [
        replace(c, predicted=sign, complete=len(c.seeds) == len(study.seeds))
        for c, sign in zip(found, signs, strict=True)
    ]


def noticed(study: Study, arms: Mapping[str, Mapping[int, Row]], endpoint: Endpoint) -> list[Contrast]:
    """Those that were not registered, by one endpoint."""
    return [_contrast(arm, base, arms[arm], arms[base], endpoint) for arm, base in study.noticed]


def corrected(found: Sequence[Contrast]) -> list[Contrast]:
    """A whole family with Holm's correction, those that have not been run included, and what follows from it."""
    complete = all(c.complete for c in found)
    judged: list[Contrast] = []
    for c, p in zip(found, holm([c.p for c in found]), strict=True):
        level = LEVEL / len(found)
        least = None if c.sd is None else detectable(c.sd, len(c.seeds), level=level)
        judged.append(_judged(replace(c, p_corrected=p, level=level, detectable=least), complete))
    return judged


def _judged(c: Contrast, complete: bool) -> Contrast:
    """A prediction holds if the difference has its sign and the corrected p is below `LEVEL`, by the first endpoint."""
    if not (complete and c.predicted and c.endpoint == FIRST and c.difference and c.p_corrected is not None):
        return c
    return replace(c, holds=c.p_corrected < LEVEL and c.difference.mean * c.predicted > 0)


def episodes_played(arms: Mapping[str, Mapping[int, Row]]) -> dict[str, float]:
    """Mean episodes that runs of each arm played in training; empty where all arms that have runs played the same."""
    played = {
        arm: sum(int(row["episodes_played"]) for row in rows.values()) / len(rows) for arm, rows in arms.items() if rows
    }
    return played if len(set(played.values())) > 1 else {}


def _contrast(arm: str, base: str, a: Mapping[int, Row], b: Mapping[int, Row], endpoint: Endpoint) -> Contrast:
    seeds = tuple(sorted(a.keys() & b.keys()))
    if not seeds:
        return Contrast(arm, base, endpoint.column, seeds)
    gaps = [_values(a[seed], endpoint) - _values(b[seed], endpoint) for seed in seeds]
    means = [float(np.nanmean(gap)) for gap in gaps]
    found = _estimated(gaps, endpoint)
    return Contrast(arm, base, endpoint.column, seeds, found, sign_flip(means), sd=deviation(means))


def _values(row: Row, endpoint: Endpoint) -> Array:
    """One value for each held-out task, or the one of the run."""
    if endpoint.won is None:
        return np.array([float(row[endpoint.column])])
    return np.array([LETTERS[letter] for letter in row[endpoint.won]])


def _estimated(values: Sequence[Array], endpoint: Endpoint) -> Estimate:
    if endpoint.won is None:
        return over_seeds([float(value[0]) for value in values])
    return over_seeds_and_tasks(np.stack(values))


def curves(study: Study, steps: Sequence[Row], column: str) -> dict[str, tuple[Array, Array]]:
    """For each arm that has any value of `column`: steps [T], and values [seeds, T], NaN where a run has none."""
    found: dict[str, tuple[Array, Array]] = {}
    for arm in study.arms:
        rows = [r for r in steps if r["arm"] == arm and int(r["seed"]) in study.seeds and r.get(column, "") != ""]
        if not rows:
            continue
        seeds, times = sorted({int(r["seed"]) for r in rows}), sorted({int(r["step"]) for r in rows})
        values = np.full((len(seeds), len(times)), np.nan)
        for r in rows:
            values[seeds.index(int(r["seed"])), times.index(int(r["step"]))] = float(r[column])
        found[arm] = np.array(times, dtype=np.float64), values
    return found


def _rounded(value: float | None) -> float | None:
    """To 6 significant digits: sums in another order leave the same text."""
    return None if value is None else float(f"{value:.6g}")

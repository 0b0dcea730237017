"""What went on inside training, arm by arm: entropy, the mass of rewards and of punishments, and gradients."""

from collections.abc import Sequence

import numpy as np
from designs import Study
from inference import Array
from outcomes import curves
from pages import table
from tables import Row

ENDS = 5
"""Steps that make the beginning, and the end."""
ENTROPIES = {"token_entropy": "token entropy", "response_entropy": "response entropy"}
MEANS = {
    "positive_mass": "mass of A > 0",
    "negative_mass": "of A < 0",
    "grad_norm": "gradient norm",
    "alpha_q05": "α: 5 %",
    "alpha_q50": "median",
    "alpha_q95": "95 %",
    "guarded_share": "groups left alone by the guard",
    "uniform_groups": "of equal returns",
}
VALUE = "value_mean"
"""Of runs with a critic; the first of them did not record it."""
NOTE = (
    f"**Inside training**, means over seeds and steps. Entropies are in nats, of the first and the last {ENDS} steps; "
    "masses are Σ w·A over the tokens of positive and of negative advantage, α included, the loss's weights w summing "
    "to 1 in each update, ratio and clip left out; what the guard left alone, and what has equal returns, is in shares "
    "of groups."
)
OF_CRITIC = (
    f" The critic's value is the mean of the first and of the last {ENDS} steps, of the runs that recorded it (those "
    "of the first seeds did not); a win is worth 10."
)


def inside(study: Study, steps: Sequence[Row]) -> list[str]:
    """The note and the table of the arms that have run; empty if none has."""
    found = {column: curves(study, steps, column) for column in (*ENTROPIES, *MEANS, VALUE)}
    valued = bool(found[VALUE])
    rows = [
        [
            f"`{arm}`",
            *(_ends(found[c].get(arm)) for c in ENTROPIES),
            *(_mean(found[c].get(arm)) for c in MEANS),
            *([_ends(found[VALUE].get(arm))] if valued else []),
        ]
        for arm in study.arms
        if any(arm in of for of in found.values())
    ]
    heads = ("arm", *ENTROPIES.values(), *MEANS.values(), *(["critic's value"] if valued else []))
    return [NOTE + OF_CRITIC * valued, table(heads, rows)] if rows else []


def _ends(curve: tuple[Array, Array] | None) -> str:
    if curve is None:
        return "–"
    _, values = curve
    return " to ".join(_number(values[:, part]) for part in (slice(ENDS), slice(-ENDS, None)))


def _mean(curve: tuple[Array, Array] | None) -> str:
    return "–" if curve is None else _number(curve[1])


def _number(values: Array) -> str:
    """The mean, rounded first to digits that sums in another order leave alone."""
    return f"{float(f'{np.nanmean(values):.6g}'):.2f}".replace("-", "−")

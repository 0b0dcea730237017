"""Screens: studies that compare nothing, and ask whether the baseline's entropy collapses early in some regime.

Registered: a regime collapses early if mean token entropy falls below half of its first value before success has made
half of its gain; where success gains nothing that noise would not give, there is no early and late, and the page says
so.
"""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tables
from checks import check
from designs import Study
from drawing import WIDTH, drawing
from figures import WINDOW, Panel, in_points, plain, smooth
from inference import Array, curve
from outcomes import by_arm, curves, endpoints, estimate
from pages import image, table

from aem_agent.report.charts import Series, line_chart
from aem_agent.report.html import Markup
from aem_agent.stats import moving_average

FIGURE = "screens"
TITLE = f"Baselines: token entropy as a share of its first value, and success; moving averages of {WINDOW} steps"

NOTE = (
    f"No gain: success of the last {WINDOW} steps is above that of the first {WINDOW} by less than twice the standard "
    "error of that difference, and so there is no early and late."
)


class Collapse(NamedTuple):
    """Where in training two things happened first, counted from 0; None: they did not."""

    halved: int | None
    """Entropy was below half of its first value."""
    learnt: int | None
    """Success had made half of its gain; None: it gained nothing that its noise would not."""

    @property
    def verdict(self) -> str:
        """Early is the first, and not after the second; without a gain there is no early and late."""
        if self.learnt is None:
            return "no gain"
        return "yes" if self.halved is not None and self.halved < self.learnt else "no"


def collapse(entropy: Array, success: Array) -> Collapse:
    """Of curves [steps], of one seed or their mean over seeds; moving averages decide where something happened.

    The gain of success is the mean of its last `WINDOW` steps less that of its first, and counts if it is at least
    twice its standard error, σ·√(2/WINDOW). The noise of one step, σ, is taken from how neighbouring steps differ:

        σ = sd(success[t + 1] − success[t])/√2

    which a steady rise leaves alone; that games change from step to step is part of it. Where there are fewer than two
    windows, the window is half of the steps.

    Raises:
        ValueError: fewer than three steps.
    """
    steps = len(success)
    if steps < 3:
        raise ValueError(f"entropy collapses over three steps or more, got {steps}")
    window = min(WINDOW, steps // 2)
    first, last = success[:window].mean(), success[-window:].mean()
    noise = np.std(np.diff(success), ddof=1) / sqrt(2)
    learnt = None
    if last > first and last - first >= 2 * noise * sqrt(2 / window):
        whole = moving_average(success.tolist(), window).mean[window - 1 :]  # begins with `first`, ends with `last`
        learnt = window - 1 + int(np.argmax(whole >= (first + last) / 2))
    entropy = moving_average(entropy.tolist(), window).mean
    return Collapse(_first(entropy < entropy[0] / 2), learnt)


def _first(happens: Array) -> int | None:
    return int(np.argmax(happens)) if happens.any() else None


def screens(studies: Sequence[Study], results: Path) -> tuple[str, dict[str, str]]:
    """Text for the page, and figures by name, of those that have results; both empty if none has.

    Raises:
        MixedResults: rows that cannot stand in one table.
    """
    lines: list[list[object]] = []
    panels: list[Panel] = []
    for study in studies:
        arms = by_arm(study, tables.read(study.name, "runs", results))
        steps = tables.read(study.name, "steps", results)
        check(study, arms, steps)
        for arm, rows in arms.items():
            if not rows:
                continue
            (x, success), (_, entropy) = (curves(study, steps, c)[arm] for c in ("success", "token_entropy"))
            found = collapse(entropy.mean(axis=0), success.mean(axis=0))
            each = [collapse(e, s).verdict for e, s in zip(entropy, success)]
            success, entropy = smooth(success), smooth(entropy)
            name = study.name.removeprefix("screen-") + ("" if len(study.arms) == 1 else f" {arm}")
            held_out = estimate(rows, endpoints(study)[1])
            lines.append(
                [
                    *(f"`{name}`", f"{len(rows)} of {len(study.seeds)}", _span(entropy, 1, "{:.3f}")),
                    *(_span(success, 100, "{:.1f}"), "–" if held_out is None else in_points(held_out, signed=False)),
                    *(_step(x, found.halved), _step(x, found.learnt)),
                    f"{found.verdict} ({', '.join(each)})",
                ]
            )
            panels.append((name, _chart(x, entropy / entropy[:, :1], success)))
    if not lines:
        return "", {}
    heads = (
        "regime",
        "seeds",
        "token entropy, first to last",
        "success, first to last, %",
        "held-out, temperature 1, %",
    )
    text = table([*heads, "entropy halved at step", "half of the gain at step", "collapses early (by seed)"], lines)
    return f"{text}\n\n{NOTE}\n\n{image(FIGURE, TITLE)}", {FIGURE: drawing(TITLE, panels)}


def _span(values: Array, times: float, form: str) -> str:
    ends = (times * float(f"{value:.6g}") for value in values.mean(axis=0)[[0, -1]])
    return " to ".join(map(form.format, ends))


def _step(x: Array, place: int | None) -> str:
    return "never" if place is None else f"{x[place]:g}"


def _chart(x: Array, entropy: Array, success: Array) -> Markup:
    names = {"token entropy, share of its first value": entropy, "success": success}
    series: list[Series] = []
    for colour, (name, values) in enumerate(names.items(), 1):
        mean, low, high = map(plain, curve(values))
        series.append(Series(name, plain(x), mean, low, high, colour=colour))
    return line_chart(series, percent=True, x_label="RL step", height=200, width=WIDTH)

"""The figures of a study, from its raw results: name of the file → SVG."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from designs import Study
from drawing import WIDTH, drawing, intervals
from inference import Array, Estimate, average, curve
from outcomes import Contrast, Endpoint, curves
from tables import Row

from aem_agent.report.charts import Bar, Series, line_chart
from aem_agent.report.html import Markup
from aem_agent.stats import moving_average

WINDOW = 5
"""RL steps in moving averages."""
IN_PANEL = 3
"""Arms beside their baseline in one chart."""

Panel = tuple[str, Markup]


def figures(
    study: Study,
    steps: Sequence[Row],
    means: Mapping[Endpoint, Mapping[str, Estimate]],
    contrasts: Mapping[Endpoint, Sequence[Contrast]],
) -> dict[str, str]:
    """All figures that the results have something for."""
    drawn = {
        "success": _over_steps(study, steps, "success", percent=True, y_label="success at temperature 1"),
        "token-entropy": _over_steps(study, steps, "token_entropy", y_label="mean token entropy, nats"),
        "response-entropy": _over_steps(study, steps, "response_entropy", y_label="response entropy, nats"),
        "shares": _shares(study, steps),
        "alpha": _alpha(study, steps),
        "held-out": _held_out(means),
        "differences": _differences(contrasts),
    }
    return {name: drawing(f"{study.name}: {TITLES[name]}", panels) for name, panels in drawn.items() if panels}


TITLES = {
    "success": f"Success over training, moving average of {WINDOW} steps; mean over seeds and its 95 % band",
    "token-entropy": f"Mean token entropy over training, moving average of {WINDOW} steps; mean over seeds, 95 % band",
    "response-entropy": f"Response entropy over training, moving average of {WINDOW} steps; mean over seeds, 95 % band",
    "shares": f"Share of responses with positive and with negative advantage, moving average of {WINDOW} steps",
    "alpha": f"Median of α, and its 5 % and 95 % quantiles, moving average of {WINDOW} steps, mean over seeds",
    "held-out": "Held-out success, mean over seeds and its 95 % interval",
    "differences": "Differences between arms in points, paired by seed, with 95 % intervals, uncorrected",
}
"""What each figure shows, by the name of its file."""


def panels(study: Study) -> list[list[str]]:
    """Arms that share a chart: those that contrasts connect, few at a time, each time with the baseline.

    Arms of no contrast stand in every chart.
    """
    together: list[set[str]] = []
    for pair in study.contrasts:
        touched = [group for group in together if group & set(pair)]
        together = [group for group in together if group not in touched] + [set(pair).union(*touched)]
    together.sort(key=lambda group: min(list(study.arms).index(arm) for arm in group))
    free = [arm for arm in study.arms if not any(arm in group for group in together)]
    charts: list[list[str]] = []
    for group in together:
        first = next(base for _, base in study.contrasts if base in group)
        others = [arm for arm in study.arms if arm in group and arm != first]
        charts += [[*free, first, *others[i : i + IN_PANEL]] for i in range(0, len(others), IN_PANEL)]
    return charts or [free]


def colours(arms: Sequence[str]) -> dict[str, int]:
    """Of the arms of a chart: neutral without AEM, blue with it, then the others; the same arm, the same colour."""
    found: dict[str, int] = {}
    for arm in arms:
        words = arm.split("-")
        taken = 0 if "off" in words else 1 if "aem" in words else 2 + sum(c > 1 for c in found.values())
        found[arm] = taken
    return found


Drawer = Callable[[str, Array, Array, int, bool], list[Series]]
"""Curves of an arm from its name, steps [T], values [seeds, T], colour, and whether it is there for reference."""


def _charts(
    study: Study, found: Mapping[str, tuple[Array, Array]], draw: Drawer, *, y_label: str, percent: bool = False
) -> list[Panel]:
    drawn: list[Panel] = []
    compared = {arm for pair in study.contrasts for arm in pair}
    for arms in panels(study):
        there = {arm: colour for arm, colour in colours(arms).items() if arm in found}
        series = [s for arm, c in there.items() for s in draw(arm, *found[arm], c, arm not in compared)]
        if series:
            chart = line_chart(series, percent=percent, x_label="RL step", height=215, width=WIDTH)
            drawn.append((y_label, chart))
    return drawn


def _over_steps(study: Study, steps: Sequence[Row], column: str, *, y_label: str, percent: bool = False) -> list[Panel]:
    def draw(arm: str, x: Array, values: Array, colour: int, reference: bool) -> list[Series]:
        mean, low, high = map(plain, curve(smooth(values)))
        return [Series(arm, plain(x), mean, low, high, dashed=reference, colour=colour)]

    return _charts(study, curves(study, steps, column), draw, y_label=y_label, percent=percent)


def _shares(study: Study, steps: Sequence[Row]) -> list[Panel]:
    negative = curves(study, steps, "negative_share")

    def draw(arm: str, x: Array, values: Array, colour: int, reference: bool) -> list[Series]:
        drawn = [Series(arm, plain(x), plain(average(smooth(values))), colour=colour)]
        if arm in negative and not reference:
            x, values = negative[arm]
            drawn.append(Series("", plain(x), plain(average(smooth(values))), dashed=True, colour=colour))
        return [] if reference else drawn

    found = curves(study, steps, "positive_share")
    return _charts(study, found, draw, y_label="share of responses with A > 0 and, dashed, A < 0", percent=True)


def _alpha(study: Study, steps: Sequence[Row]) -> list[Panel]:
    low, high = curves(study, steps, "alpha_q05"), curves(study, steps, "alpha_q95")

    def draw(arm: str, x: Array, values: Array, colour: int, reference: bool) -> list[Series]:
        middle, lower, upper = (plain(average(smooth(of))) for of in (values, low[arm][1], high[arm][1]))
        return [Series(arm, plain(x), middle, lower, upper, colour=colour)]

    found = {arm: of for arm, of in curves(study, steps, "alpha_q50").items() if not _constant(low[arm], high[arm])}
    return _charts(study, found, draw, y_label="α: median and 5 % to 95 %")


def _constant(low: tuple[Array, Array], high: tuple[Array, Array]) -> bool:
    """Every α was 1: there was none."""
    return bool(np.all(low[1][np.isfinite(low[1])] == 1) and np.all(high[1][np.isfinite(high[1])] == 1))


def _held_out(means: Mapping[Endpoint, Mapping[str, Estimate]]) -> list[Panel]:
    drawn: list[Panel] = []
    for endpoint, arms in means.items():
        rows = [_bar(arm, found, signed=False) for arm, found in arms.items()]
        if endpoint.won and rows:
            chart = intervals(rows, [min(colours([arm])[arm], 2) for arm in arms], bars=True)
            drawn.append((f"{endpoint.name}, %", chart))
    return drawn


def _differences(contrasts: Mapping[Endpoint, Sequence[Contrast]]) -> list[Panel]:
    drawn: list[Panel] = []
    for endpoint, found in contrasts.items():
        rows = [_bar(f"{c.arm} − {c.baseline}", c.difference, signed=True) for c in found if c.difference]
        if rows:
            drawn.append((f"{endpoint.name}, difference in points", intervals(rows, [1] * len(rows))))
    return drawn


def _bar(label: str, found: Estimate, *, signed: bool) -> Bar:
    """In points."""
    low, high = (None, None) if found.interval is None else map(_points, found.interval)
    return Bar(label, _points(found.mean), low, high, in_points(found, signed=signed))


def _points(value: float) -> float:
    return float(f"{100 * value:.6g}")


def in_points(found: Estimate, *, signed: bool) -> str:
    """As "+1.2 (−0.3 to +2.7)", in percent or points of it."""
    form = "{:+.1f}" if signed else "{:.1f}"
    parts = [form.format(_points(v)).replace("-", "−") for v in (found.mean, *(found.interval or ()))]
    return f"{parts[0]} ({parts[1]} to {parts[2]})" if found.interval else parts[0]


def smooth(values: Array) -> Array:
    """Moving average over the last `WINDOW` steps of each seed: [seeds, steps] both."""
    return np.stack([moving_average(row.tolist(), WINDOW).mean for row in values])


def plain(values: Array) -> list[float]:
    """To 6 significant digits: the last ones may depend on the machine, and drawings must not."""
    return [float(f"{value:.6g}") for value in values]

"""`report.html` of a run: before and after, curves over RL steps, the warm start, time per phase, sample episodes."""

from collections.abc import Mapping, Sequence
from typing import Any

from aem_agent.report.charts import Series, line_chart
from aem_agent.report.episodes import episode_view
from aem_agent.report.html import Markup, join, page, paragraph, table, tiles
from aem_agent.stats import moving_average
from aem_agent.types import Episode
from trainer.metrics import Record

WINDOW = 10
"""RL steps in the moving averages: single steps are noisy."""


def training_page(
    title: str,
    records: Sequence[Record],
    samples: Mapping[str, Sequence[Episode]],
    config: Mapping[str, Any],
) -> str:
    """The whole document. `records` are those of `metrics.jsonl`; `samples` are episodes by heading."""
    by_kind = {kind: [r for r in records if r["kind"] == kind] for kind in ("warmstart", "explore", "rl", "evaluation")}
    rl = by_kind["rl"]
    sections: list[tuple[str, str]] = [("Success in evaluation", _evaluations(by_kind["evaluation"]))]
    if rl:
        sections += [
            ("Success in training", _success(rl, by_kind["evaluation"])),
            ("Entropy", _entropy(rl)),
            ("Modulation", _modulation(rl)),
            (
                "Actions the parser or the environment refused",
                _curves(rl, {"invalid share": "invalid_rate"}, percent=True),
            ),
            ("Updates", _updates(rl)),
            ("Time per phase", _time(rl)),
        ]
    for kind, heading in (("warmstart", "Warm start"), ("explore", "Exploratory stage")):
        if by_kind[kind]:
            sections.append((heading, _warmstart(by_kind[kind])))
    sections += [(heading, join(*map(episode_view, episodes))) for heading, episodes in samples.items() if episodes]
    rows = [[key, value] for key, value in _flat(config)]
    sections.append(("Configuration", table(["key", "value"], rows)))
    return page(title, sections, footer="Written by aem-train (aem-suite).")


def _evaluations(records: Sequence[Record]) -> Markup:
    if not records:
        return paragraph("No evaluation was made.")
    last = {(r["when"], r["temperature"]): r for r in records}
    figures = [
        (
            f"{when} RL, {'greedy' if not temperature else f'temperature {temperature:g}'}",
            f"{100 * r['success']:.1f} %",
            f"95 % interval {100 * r['low']:.1f} – {100 * r['high']:.1f} %, {r['n']} games{_graded(r)}",
        )
        for (when, temperature), r in last.items()
        if when in ("before", "after")
    ]
    columns = {k: k for k in ("step", "when", "split", "temperature")}
    columns |= {"games": "n", "success": "success", "low": "low", "high": "high"}
    if any(map(_graded, records)):
        columns |= {"score": "mean_score", "from": "score_low", "to": "score_high"}
    columns |= {"invalid": "invalid_rate", "turns": "mean_turns"}
    if any(r.get("errors") for r in records):
        columns |= {"errors": "errors"}
    rows = [[_short(r.get(key, "–")) for key in columns.values()] for r in records]
    on = dict.fromkeys(f"{r['split']}: data {r['data_hash']} · {r['engine']}" for r in records if "data_hash" in r)
    notes = [paragraph(line, note=True) for line in on]
    return join(tiles(figures), table([*columns], rows, numbers=range(4, len(columns))), *notes)


def _graded(record: Record) -> str:
    """The mean score in words, where it says more than success."""
    return f", mean score {record['mean_score']:.3f}" if record.get("graded") else ""


def _short(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value


def _values(records: Sequence[Record], key: str) -> list[float]:
    return [float("nan") if r.get(key) is None else float(r[key]) for r in records]


def _smooth(records: Sequence[Record], name: str, key: str) -> Series:
    band = moving_average(_values(records, key), WINDOW)
    steps = [float(r["step"]) for r in records]
    return Series(name, steps, band.mean.tolist(), band.low.tolist(), band.high.tolist())


def _curves(records: Sequence[Record], names: Mapping[str, str], *, percent: bool = False) -> Markup:
    """Moving averages of several metrics in one chart."""
    series = [
        _smooth(records, name, key) for name, key in names.items() if any(r.get(key) is not None for r in records)
    ]
    return line_chart(series, x_label="RL step", percent=percent) if series else paragraph("Not recorded.")


def _success(rl: Sequence[Record], evaluations: Sequence[Record]) -> Markup:
    series = [_smooth(rl, "sampled in training", "success")]
    for temperature in sorted({r["temperature"] for r in evaluations}):
        rows = [r for r in evaluations if r["temperature"] == temperature]
        name = "evaluated greedily" if temperature == 0 else f"evaluated at temperature {temperature:g}"
        steps = [float(r["step"]) for r in rows]
        series.append(Series(name, steps, _values(rows, "success"), _values(rows, "low"), _values(rows, "high")))
    note = f"Training success: moving average over {WINDOW} steps with its 95 % band. Evaluation: Wilson intervals."
    chart = line_chart(series, x_label="RL step", percent=True, y_range=(0.0, 1.0))
    return join(chart, paragraph(note, note=True), *_scores(rl, evaluations))


def _scores(rl: Sequence[Record], evaluations: Sequence[Record]) -> list[Markup]:
    """Mean scores over RL steps, where they say more than success."""
    if not any(map(_graded, evaluations)):
        return []
    series = [_smooth(rl, "sampled in training", "score_mean")]
    for temperature in sorted({r["temperature"] for r in evaluations}):
        rows = [r for r in evaluations if r["temperature"] == temperature]
        name = "evaluated greedily" if temperature == 0 else f"evaluated at temperature {temperature:g}"
        steps = [float(r["step"]) for r in rows]
        mean, low, high = (_values(rows, key) for key in ("mean_score", "score_low", "score_high"))
        series.append(Series(name, steps, mean, low, high))
    return [paragraph("Mean score:"), line_chart(series, x_label="RL step", y_range=(0.0, 1.0))]


def _entropy(rl: Sequence[Record]) -> Markup:
    return join(
        _curves(rl, {"token entropy": "token_entropy", "token surprisal": "token_surprisal"}),
        _curves(rl, {"response entropy (sum over tokens)": "response_entropy"}),
        paragraph("Nats, of the sampling policy at its temperature, over the full vocabulary.", note=True),
    )


def _modulation(rl: Sequence[Record]) -> Markup:
    return join(
        _curves(rl, {"α, 95 %": "alpha_q95", "α, median": "alpha_q50", "α, 5 %": "alpha_q05"}),
        _curves(rl, {"groups left alone by the range guard": "guarded_share"}, percent=True),
        paragraph("α scales each response's advantage; where AEM is off it is 1.", note=True),
    )


def _updates(rl: Sequence[Record]) -> Markup:
    return join(
        _curves(
            rl, {"clipped tokens": "clip_fraction", "groups with one outcome only": "uniform_groups"}, percent=True
        ),
        _curves(rl, {"KL of old from new policy": "approx_kl"}),
        _curves(rl, {"gradient norm": "grad_norm"}),
        _curves(rl, {"positive advantage mass": "positive_mass", "negative advantage mass": "negative_mass"}),
        paragraph(
            "Advantage mass: sums of the positive and of the negative advantages as the loss weighs them.", note=True
        ),
    )


def _time(rl: Sequence[Record]) -> Markup:
    phases = sorted({k for r in rl for k in r if k.startswith("seconds_")})
    totals = {phase: sum(float(r.get(phase) or 0) for r in rl) for phase in phases}
    whole = sum(totals.values()) or 1.0
    rows = [[p.removeprefix("seconds_"), f"{s:.2f}", f"{100 * s / whole:.2f} %"] for p, s in totals.items()]
    return join(
        _curves(rl, {p.removeprefix("seconds_"): p for p in phases}),
        table(["phase", "seconds in all", "share"], rows, numbers=(1, 2)),
    )


def _warmstart(records: Sequence[Record]) -> Markup:
    steps = [float(r["step"]) for r in records]
    series = [Series("loss per token, nats", steps, _values(records, "loss"))]
    return line_chart(series, x_label="optimiser step")


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        rows += (
            _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else [(prefix + key, str(value))]
        )
    return rows

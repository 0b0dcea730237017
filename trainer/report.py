"""`report.html` of a run: alarms, before and after, curves over RL steps, the warm start, sample episodes, settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from aem_agent.report.charts import Series, line_chart
from aem_agent.report.episodes import episode_view
from aem_agent.report.html import Markup, join, page, paragraph, table, tiles, warning
from aem_agent.types import Episode
from trainer import report_curves
from trainer.health import step_name
from trainer.metrics import Record

KINDS = ("warmstart", "explore", "rl", "evaluation", "alarm")


def training_page(
    title: str,
    records: Sequence[Record],
    samples: Mapping[str, Sequence[Episode]],
    config: Mapping[str, Any],
) -> str:
    """The whole document. `records` are those of `metrics.jsonl`; `samples` are episodes by heading."""
    by_kind = {kind: [r for r in records if r["kind"] == kind] for kind in KINDS}
    rl, evaluations = by_kind["rl"], by_kind["evaluation"]
    sections: list[tuple[str, str]] = []
    if by_kind["alarm"]:
        sections.append(("Alarms", _alarms(by_kind["alarm"])))
    sections.append(("Success in evaluation", _evaluations(evaluations)))
    if rl:
        graded = any(map(_graded, evaluations))
        sections.append(("Success in training", report_curves.success(rl, evaluations, graded=graded)))
        if report_curves.task_types(rl):
            sections.append(("Success in training by task type", report_curves.by_type(rl)))
        sections += [
            ("Entropy", report_curves.entropy(rl)),
            ("Modulation", report_curves.modulation(rl)),
            ("Updates", report_curves.updates(rl)),
            ("Actions", report_curves.actions(rl)),
            ("Speed and memory", report_curves.speed(rl)),
            ("Time per phase", report_curves.phases(rl)),
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
    return join(tiles(figures), table([*columns], rows, numbers=range(4, len(columns))), _by_type(last), *notes)


def _by_type(last: Mapping[tuple[str, float], Record]) -> Markup:
    """Success by task type of the last evaluation of each kind."""
    kinds = report_curves.task_types(last.values())
    if not kinds:
        return Markup("")
    heads = [f"{when}, {f'T={temperature:g}' if temperature else 'greedy'}" for when, temperature in last]
    found = {kind: [r.get(report_curves.BY_TYPE + kind) for r in last.values()] for kind in kinds}
    rows = [[kind, *("–" if v is None else f"{100 * v:.1f} %" for v in row)] for kind, row in found.items()]
    return table(["success by task type", *heads], rows, numbers=range(1, len(heads) + 1))


def _alarms(records: Sequence[Record]) -> Markup:
    """What went wrong, when, and what to do about it."""
    lines = (f"{step_name(r['stage'])} {r['step']}: {r['words']}: {r['advice']}." for r in records)
    return join(*map(warning, lines))


def _graded(record: Record) -> str:
    """The mean score in words, where it says more than success."""
    return f", mean score {record['mean_score']:.3f}" if record.get("graded") else ""


def _short(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value


def _warmstart(records: Sequence[Record]) -> Markup:
    series = [Series("loss per token, nats", report_curves.steps(records), report_curves.values(records, "loss"))]
    return line_chart(series, x_label="optimiser step")


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        rows += (
            _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else [(prefix + key, str(value))]
        )
    return rows

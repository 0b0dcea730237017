"""`aem-train analyse alpha`: α, the balance of advantages and the entropy drift over training.

It reads `metrics.jsonl` alone, and works while the run goes on. `docs/training.md` and `docs/algorithms.md` say
what each name means.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aem_agent.report.charts import Series, line_chart, scatter_chart
from aem_agent.report.html import Markup
from aem_agent.stats import moving_average
from trainer.analysis.inputs import run_config
from trainer.analysis.relations import agreement, column, correlation
from trainer.analysis.results import AnalysisError, Found, analysis_folder, write_csv, write_svg
from trainer.metrics import Record, read_records

WINDOW = 10
"""RL steps in the moving averages: single steps are noisy."""

COLUMNS = (
    "step",
    "alpha_q05",
    "alpha_q50",
    "alpha_q95",
    "guarded_share",
    "positive_share",
    "negative_share",
    "positive_sum_before",
    "negative_sum_before",
    "positive_sum",
    "negative_sum",
    "advantage_sum",
    "positive_mass",
    "negative_mass",
    "token_entropy",
    "response_entropy",
    "entropy_drift_predicted",
    "entropy_drift_measured",
    "entropy_drift_same_prefixes",
)
PREDICTED, MEASURED, SAME = COLUMNS[-3:]


def analyse_alpha(run: Path) -> Found:
    """Write `RUN/analysis/alpha.csv`, and figures of α, of the shares, and of drifts where they were measured.

    Raises:
        AnalysisError: no training run, or no RL step yet.
    """
    config = run_config(run)
    records = [r for r in read_records(run / "metrics.jsonl") if r["kind"] == "rl" and r.get("alpha_q50") is not None]
    if not records:
        raise AnalysisError(f"{run} has no RL step with a batch yet: wait for one")
    folder = analysis_folder(run)
    files = [
        write_csv(folder / "alpha.csv", [{name: r.get(name) for name in COLUMNS} for r in records]),
        write_svg(folder / "alpha.svg", _curves(records, ALPHA)),
        write_svg(folder / "alpha-shares.svg", _curves(records, SHARES)),
    ]
    lines = [] if config.aem.enabled else ["AEM is off in this run: every α is 1"]
    lines += _lines(records)
    if drifts := [r for r in records if r.get(PREDICTED) is not None and r.get(MEASURED) is not None]:
        files.append(write_svg(folder / "drift.svg", _drifts(drifts)))
        lines += [_drift_line(drifts, MEASURED, "measured"), _drift_line(drifts, SAME, "at the same prefixes")]
    return Found(tuple(lines), tuple(files))


ALPHA = {"α, 95 %": "alpha_q95", "α, median": "alpha_q50", "α, 5 %": "alpha_q05"}
SHARES = {
    "responses with A > 0": "positive_share",
    "with A < 0": "negative_share",
    "groups left alone": "guarded_share",
}


def _curves(records: Sequence[Record], names: Mapping[str, str]) -> Markup:
    series = []
    for label, name in names.items():
        band = moving_average(column(records, name), WINDOW)
        steps = [float(r["step"]) for r in records]
        series.append(Series(label, steps, band.mean.tolist(), band.low.tolist(), band.high.tolist()))
    percent = names is SHARES
    label = f"RL step (moving averages over {WINDOW}, with their 95 % band)"
    return line_chart(series, x_label=label, percent=percent, y_range=(0.0, 1.0) if percent else None)


def _lines(records: Sequence[Record]) -> list[str]:
    """The first and the last tenth of the steps, in words."""
    few = max(1, len(records) // 10)
    lines = []
    for words, some in ((f"first {few}", records[:few]), (f"last {few}", records[-few:])):
        mean = {name: sum(column(some, name)) / len(some) for name in COLUMNS[1:12]}
        before = mean["positive_sum_before"] + mean["negative_sum_before"]
        lines.append(
            f"{words} of {len(records)} steps: α {mean['alpha_q05']:.2f} to {mean['alpha_q95']:.2f} (5 % to 95 %), "
            f"A > 0 in {100 * mean['positive_share']:.0f} % of responses, < 0 in {100 * mean['negative_share']:.0f} %, "
            f"Σ α·A {mean['advantage_sum']:+.1f} (without α {before:+.1f})"
        )
    return lines


def _drift_line(records: Sequence[Record], name: str, words: str) -> str:
    predicted, measured = column(records, PREDICTED), column(records, name)
    return (
        f"entropy drift {words} against predicted, over steps: {correlation(predicted, measured)}; "
        f"signs agree in {agreement(predicted, measured)} steps"
    )


def _drifts(records: Sequence[Record]) -> Markup:
    predicted = column(records, PREDICTED)
    series = [
        Series("measured, one point per step", predicted, column(records, MEASURED)),
        Series("at the same prefixes", predicted, column(records, SAME)),
    ]
    return scatter_chart(
        series, x_label="predicted drift, nats per response and unit step", y_label="entropy drift, nats per response"
    )

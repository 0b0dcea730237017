"""Figures of AEM's theory, from what `aem-train analyse` wrote of single runs.

    aem-train analyse surprisal RUN     RUN/analysis/surprisal.csv: 1 − α against S − H at states, by Monte Carlo
    aem-train analyse entropy-mask RUN  RUN/analysis/entropy-mask.csv: entropy when A·(α − 1) of one sign alone counts

In `results/analyses/NAME/`, where `analyse.py` puts them, they are drawn and summed up here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tables
from drawing import WIDTH, drawing
from figures import Panel
from pages import image
from tables import Row

from aem_agent.report.charts import Series, line_chart, scatter_chart
from aem_agent.report.html import Markup
from trainer.analysis.relations import column, trend
from trainer.analysis.surprisal import summary_lines

FOLDER = "analyses"
MODES = {"off": "AEM off", "none": "AEM", "fall": "A·(α − 1) > 0 alone", "rise": "A·(α − 1) < 0 alone"}
"""As the trainings are called in the file, and in the figure."""
NAMES = ("mode", "task_id")
"""Columns that are no numbers."""


def analyses(results: Path) -> tuple[str, dict[str, str]]:
    """Text for the page, and figures by name, of all that is in `results/analyses`; both empty if nothing is."""
    lines: list[str] = []
    drawn: dict[str, str] = {}
    for folder in sorted(path for path in (results / FOLDER).glob("*") if path.is_dir()):
        study = f"{FOLDER}/{folder.name}"
        if states := _numbers(tables.read(study, "surprisal", results)):
            name, title = f"{folder.name}-surprisal", "α against relative surprisal by Monte Carlo"
            drawn[name] = drawing(f"{folder.name}: {title}", [("", _scatter(states))])
            lines += [_listed(f"`{folder.name}`, {len(states)} states", summary_lines(states))]
            lines += [image(name, f"{folder.name}: {title}")]
        if steps := tables.read(study, "entropy-mask", results):
            name, title = f"{folder.name}-entropy-mask", "entropy under sign masks"
            found, panels = _masks(steps)
            drawn[name] = drawing(f"{folder.name}: {title}", panels)
            heading = f"`{folder.name}`, {title}; response entropy, nats per update (95 %, of one seed)"
            lines += [_listed(heading, found), image(name, f"{folder.name}: {title}")]
    return "\n\n".join(lines), drawn


def _listed(heading: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{heading}:", "", *(f"- {line}" for line in lines)])


def _numbers(rows: Sequence[Row]) -> list[dict[str, float | int | str | None]]:
    """Without the columns that hold names."""
    return [{key: float(value) if value else None for key, value in row.items() if key not in NAMES} for row in rows]


def _scatter(states: Sequence[Mapping[str, float | int | str | None]]) -> Markup:
    points = Series("one state each", column(states, "relative_surprisal"), column(states, "one_minus_alpha"), colour=1)
    return scatter_chart([points], x_label="relative surprisal S − H, nats", y_label="1 − α", height=300, width=WIDTH)


def _masks(steps: Sequence[Row]) -> tuple[list[str], list[Panel]]:
    """Slopes of differences between trainings, how many steps had anything to train on; both entropies of each."""
    of = {mode: _numbers([row for row in steps if row["mode"] == mode]) for mode in MODES}
    panels: list[Panel] = []
    for name, heading in {
        "response_entropy": "response entropy, nats",
        "token_entropy": "mean token entropy, nats",
    }.items():
        series = [
            Series(MODES[mode], column(rows, "updates"), column(rows, name), colour=colour)
            for colour, (mode, rows) in enumerate(of.items())
        ]
        panels.append((heading, line_chart(series, x_label="updates", height=230, width=WIDTH)))
    trained = (f"{MODES[mode]} in {sum(map(_kept, rows))} of {len(rows)}" for mode, rows in of.items())
    parted = (_apart(of, *pair) for pair in (("rise", "fall"), ("rise", "off"), ("fall", "off")))
    return [*parted, f"steps with anything to train on: {', '.join(trained)}"], panels


def _apart(of: Mapping[str, Sequence[Mapping[str, float | int | str | None]]], one: str, other: str) -> str:
    """The slope of response entropy of one training less that of another, step by step."""
    gaps = [a - b for a, b in zip(column(of[one], "response_entropy"), column(of[other], "response_entropy"))]
    slope = trend(gaps)
    low, high = slope.interval
    return f"{MODES[one]} less {MODES[other]}: {slope.slope:+.4f} ({low:+.4f} to {high:+.4f})"


def _kept(row: Mapping[str, float | int | str | None]) -> bool:
    return bool(row["kept_share"])

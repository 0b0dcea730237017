"""What an analysis leaves: lines for a person, a CSV file, and figures that any viewer of SVG shows."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import aem_agent.report
from aem_agent.files import own_folder
from aem_agent.report.html import Markup
from aem_agent.run_folder import write_atomically
from trainer.errors import TrainerError

Value = float | int | str | None


class AnalysisError(TrainerError):
    """A run, or its environment, does not allow the analysis; the message says why, and what would."""


@dataclass(frozen=True)
class Found:
    """The outcome of an analysis."""

    lines: tuple[str, ...]
    files: tuple[Path, ...]


def analysis_folder(run: Path, *parts: str) -> Path:
    """`RUN/analysis/part/…`, made where there is none.

    Raises:
        AnalysisError: one of them is a link, which could lead anywhere, or cannot be made.
    """
    try:
        return own_folder(run, "analysis", *parts)
    except OSError as error:
        raise AnalysisError(f"{error.filename}: {error.strerror}") from error


def write_csv(path: Path, rows: Sequence[Mapping[str, Value]]) -> Path:
    """`rows`, which share their keys, with a heading; 6 significant digits, and nothing for what is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([_written(value) for value in row.values()])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())
    return path


def _written(value: Value) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_svg(path: Path, figure: Markup) -> Path:
    """A chart of `aem_agent.report.charts` as a file of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, standalone(figure).encode())
    return path


def standalone(figure: Markup) -> str:
    """The chart's SVG with the report's light colours written out: not all viewers know variables of style sheets."""
    found = re.search(r"<svg (.*)</svg>", figure, flags=re.S)
    view = re.search(r'viewBox="0 0 (\S+) (\S+)"', figure)
    if found is None or view is None:
        raise ValueError("the figure holds no SVG chart")
    head, _, body = found[1].partition(">")
    ground = f'<rect width="{view[1]}" height="{view[2]}" class="ground"/>'
    style = chart_style(tuple(report_colours().items()))
    return f'<svg xmlns="http://www.w3.org/2000/svg" {head}><style>{style}</style>{ground}{body}</svg>\n'


def report_colours(*, dark: bool = False) -> dict[str, str]:
    """Colours of the report's style sheet by their names."""
    return dict(re.findall(r"--(\w+): (#\w+)", _report_css().split("}")[int(dark)]))


@cache
def _report_css() -> str:
    return Path(aem_agent.report.__file__).with_name("style.css").read_text(encoding="utf-8")


@cache
def chart_style(named: tuple[tuple[str, str], ...]) -> str:
    """Rules of charts from the report's style sheet with these colours (name, value) in place of its variables."""
    css, colours = _report_css(), dict(named)
    rules = [line.removeprefix("svg ") for line in css.splitlines() if re.match(r"svg [^{]", line)]
    written = [re.sub(r"var\(--(\w+)\)", lambda m: colours[m[1]], rule) for rule in rules if "var(--c)" not in rule]
    for name, colour in colours.items():
        if re.fullmatch(r"c\d", name):
            written.append(f".{name}.curve, .{name}.swatch {{ stroke: {colour}; }}")
            written.append(f".{name}.band, .{name}.bar {{ fill: {colour}; }} .{name}.hit {{ color: {colour}; }}")
    font = "svg { font: 10.5px system-ui, -apple-system, 'Segoe UI', sans-serif; }"
    return "\n".join([font, f".ground {{ fill: {colours['card']}; }}", *written])

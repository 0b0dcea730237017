"""Charts as SVG files that stand alone: on light pages and dark ones, on a phone, without colour to tell curves by.

The charts are `aem_agent.report.charts`', drawn narrow, so that a phone's width leaves their text legible; an image has
no page's style, so each file brings its own, and a ground of its own.
"""

import re
from collections.abc import Callable, Sequence
from math import isfinite

from aem_agent.report.charts import Bar, ticks
from aem_agent.report.html import Markup, join, tag
from trainer.analysis.results import chart_style, report_colours

WIDTH = 380
"""Of a drawing, in units of which text is 10.5 high: about a phone's width in pixels."""
SHOWN = 1.5
"""How much larger it is shown where there is room."""
TITLE, GAP = 22, 14
LIGHT = ("#5f6b7a", "#0072b2", "#d55e00", "#009e73", "#b8578f", "#8a6d00", "#3a86a8", "#000000")
DARK = ("#aab4c0", "#56b4e9", "#e8944a", "#2fc79a", "#e39ac4", "#e6d45c", "#8fd0e6", "#ffffff")
"""Neutral for what others are compared with, then colours after Okabe & Ito 2008 (Color Universal Design), which people
who see no red or no green tell apart; darker on light ground where theirs would be too pale, lighter on dark."""


def drawing(title: str, panels: Sequence[tuple[str, Markup]]) -> str:
    """One SVG file: charts of width `WIDTH` below each other, each with its heading; `title` says what it shows."""
    parts: list[Markup] = []
    height = 0.0
    for heading, chart in panels:
        body, tall = _body(chart)
        if heading:
            parts.append(tag("text", heading, x=8, y=f"{height + 15:g}", class_="strong heading"))
            height += TITLE
        parts.append(tag("g", body, transform=f"translate(0,{height:g})"))
        height += tall + GAP
    ground = tag("rect", width=WIDTH, height=f"{height:g}", class_="ground")
    size = {"width": f"{SHOWN * WIDTH:g}", "height": f"{SHOWN * height:g}", "viewBox": f"0 0 {WIDTH} {height:g}"}
    style = tag("style", Markup(_style()))
    head = tag("title", title)
    return tag("svg", head, style, ground, *parts, xmlns="http://www.w3.org/2000/svg", role="img", **size) + "\n"


def _body(chart: Markup) -> tuple[Markup, float]:
    """What is inside a chart's SVG, without what answers a pointer (an image has none), and its height."""
    found = re.search(r'<svg [^>]*viewBox="0 0 \S+ (\S+)"[^>]*>(.*)</svg>', chart, flags=re.S)
    if found is None:
        raise ValueError("not a chart")
    return Markup(re.sub(r'<circle [^>]*class="hit [^>]*>.*?</circle>', "", found[2], flags=re.S)), float(found[1])


def _style() -> str:
    rules = [chart_style(tuple(_colours(dark).items())) for dark in (False, True)]
    extra = ".heading { font-weight: 600; font-size: 11.5px; } .zero { stroke-width: 1; }"
    return f"{rules[0]}\n{extra}\n@media (prefers-color-scheme: dark) {{\n{rules[1]}\n}}"


def _colours(dark: bool) -> dict[str, str]:
    palette = DARK if dark else LIGHT
    return report_colours(dark=dark) | {f"c{i}": colour for i, colour in enumerate(palette)}


def intervals(rows: Sequence[Bar], colours: Sequence[int], *, bars: bool = False) -> Markup:
    """A forest plot: a dot with its interval for each row, label and note above it, and a line at zero.

    bars: from zero to the dot, for what is a share of something rather than a difference.
    """
    finite = [v for r in rows for v in (r.value, r.low, r.high) if v is not None and isfinite(v)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    margin = (high - low or 1.0) * 0.04
    low, high = low - (margin if low < 0 else 0.0), high + margin
    left, right, tall = 12.0, WIDTH - 12.0, 32
    bottom = tall * len(rows) + 4

    def place(value: float) -> str:
        return f"{left + (value - low) / (high - low) * (right - left):.1f}"

    parts: list[Markup] = []
    for tick in ticks(low, high, 6):
        parts.append(tag("line", x1=place(tick), x2=place(tick), y1=0, y2=bottom, class_="grid"))
        parts.append(tag("text", f"{tick:.4g}", x=place(tick), y=bottom + 13, text_anchor="middle"))
    if low < 0:
        parts.append(tag("line", x1=place(0), x2=place(0), y1=0, y2=bottom, class_="whisker zero"))
    for number, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        y = tall * number + 23
        parts.append(tag("text", row.label, x=left, y=y - 10, class_="strong"))
        parts.append(tag("text", row.note, x=right, y=y - 10, text_anchor="end"))
        if isfinite(row.value):
            parts.append(_marked(row, colour, place, y, bars))
    svg = tag("svg", join(*parts), viewBox=f"0 0 {WIDTH} {bottom + 16}")
    return tag("figure", svg)


def _marked(row: Bar, colour: int, place: Callable[[float], str], y: int, bars: bool) -> Markup:
    parts: list[Markup] = []
    at, zero = place(row.value), place(0)
    if bars:
        across = {"x": min(zero, at, key=float), "width": f"{abs(float(at) - float(zero)):.1f}"}
        parts.append(tag("rect", **across, y=y - 5, height=10, rx=2, class_=f"bar c{colour}"))
    if row.low is not None and row.high is not None:
        ends = place(row.low), place(row.high)
        parts.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_="whisker"))
        parts += [tag("line", x1=x, x2=x, y1=y - 4, y2=y + 4, class_="whisker") for x in ends]
    if not bars:
        parts.append(tag("circle", cx=at, cy=y, r=4.5, class_=f"bar c{colour}"))
    return join(*parts)

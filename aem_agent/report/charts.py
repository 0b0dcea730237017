"""Charts as inline SVG: curves with bands and bars with intervals. Colours come from the page's style sheet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isfinite, log10

from aem_agent.report.html import Markup, tag
from aem_envs.sanitize import cut

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 38
MAX_NAME = 100
"""Characters of a name, a note or an axis' label shown at most."""
HOVER_POINTS = 200
"""Hover targets per curve at most; longer curves are thinned, the curve itself is not."""

Placer = Callable[[float, float], tuple[float, float]]
"""Data to picture coordinates."""


@dataclass(frozen=True, slots=True)
class Series:
    """A curve. NaN and infinite points are gaps; a legend leaves out one without a name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    """Lower edge of the band around the curve; needs `high`."""
    high: Sequence[float] | None = None
    dashed: bool = False
    colour: int | None = None
    """Of the eight; None: the next one."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar with an optional interval, and a note set behind it."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def number(value: float, percent: bool = False) -> str:
    """A short reading of `value`: 4 significant digits, or a percentage."""
    return f"{100 * value:.4g} %" if percent else f"{value:.4g}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values (1, 2 or 5 times a power of ten apart) that cover [low, high] from inside."""
    span = high - low
    if not (isfinite(span) and span > 1e-300):
        return [low]
    power = 10.0 ** floor(log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= count)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The least range that holds all finite values, never empty."""
    finite = [v for v in values if isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if low == high:
        pad = abs(low) / 2 or 0.5
        return low - pad, high + pad
    return low, high


def _figure(caption: str, height: float, *parts: Markup, width: int = WIDTH) -> Markup:
    caption = cut(caption, MAX_NAME)
    svg = tag("svg", *parts, viewBox=f"0 0 {width} {height:g}", role="img", aria_label=caption or "chart")
    return tag("figure", tag("figcaption", caption) if caption else "", svg)


def _text(x: float, y: float, value: object, anchor: str = "start", class_: str | None = None) -> Markup:
    return tag("text", cut(str(value), 2 * MAX_NAME), x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def _colour(index: int, s: Series) -> str:
    return f"c{(index if s.colour is None else s.colour) % 8}"


def _places(names: Sequence[str], swatch: int, width: int) -> tuple[list[tuple[float, float]], int]:
    """Where the entries of a legend begin, and how far it pushes the chart down: rows of 16 within `width`."""
    places: list[tuple[float, float]] = []
    across, down = float(LEFT), 0
    for name in names:
        room = swatch + 6 + 5.6 * len(name) if name else 0
        if across > LEFT and across + room > width - RIGHT:
            across, down = float(LEFT), down + 16
        places.append((across, float(down)))
        across += room + 20 if name else 0
    return places, down


def _runs(points: Sequence[tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
    """`points` split where one is not finite."""
    runs: list[list[tuple[float, ...]]] = [[]]
    for point in points:
        if all(map(isfinite, point)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def line_chart(
    series: Sequence[Series],
    *,
    caption: str = "",
    x_label: str = "",
    percent: bool = False,
    y_range: tuple[float, float] | None = None,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> Markup:
    """Curves over a common x axis, with bands, a legend above and readings on hover.

    `percent` labels y as percentages; `y_range` fixes the axis, which otherwise holds all points and bands. A legend of
    several rows adds to `height`.
    """
    series = [replace(s, name=cut(s.name, MAX_NAME)) for s in series]
    places, down = _places([s.name for s in series], 18, width)
    top, height, right = TOP + down, height + down, width - RIGHT
    x_low, x_high = _range([x for s in series for x in s.x])
    y_low, y_high = y_range or _range([y for s in series for ys in (s.y, s.low or (), s.high or ()) for y in ys])
    bottom = height - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        """Data to picture; y is kept within the axis so that a wild value cannot cover the page."""
        across = LEFT + (x - x_low) / (x_high - x_low) * (right - LEFT)
        up = min(1.0, max(0.0, (y - y_low) / (y_high - y_low)))
        return across, bottom - up * (bottom - top)

    parts: list[Markup] = []
    for tick in ticks(y_low, y_high):
        y = place(x_low, tick)[1]
        parts.append(tag("line", x1=LEFT, x2=right, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"))
        parts.append(_text(LEFT - 8, y + 4, number(tick, percent), "end"))
    across = ticks(x_low, x_high, _tick_count(width))
    parts += [_text(place(tick, y_low)[0], bottom + 16, number(tick), "middle") for tick in across]
    parts.append(_text((LEFT + right) / 2, height - 4, x_label, "middle"))
    for index, (s, (x, y)) in enumerate(zip(series, places)):
        colour = _colour(index, s)
        dashed = " dashed" if s.dashed else ""
        swatch = {"x1": f"{x:.0f}", "x2": f"{x + 18:.0f}", "y1": f"{y + 8:.0f}", "y2": f"{y + 8:.0f}"}
        if s.name:
            parts.append(tag("line", **swatch, stroke_width=2.5, class_=f"swatch {colour}{dashed}"))
            parts.append(_text(x + 24, y + 12, s.name))
        parts.append(_curve(s, colour, dashed, place, percent))
    return _figure(caption, height, *parts, width=width)


def _tick_count(width: int) -> int:
    """About how many labels fit along an x axis."""
    return max(4, 8 * width // WIDTH)


def _curve(s: Series, colour: str, dashed: str, place: Placer, percent: bool) -> Markup:
    """One series: band, curve, hover points."""
    parts: list[Markup] = []
    for run in _runs(list(zip(s.x, s.low, s.high))) if s.low is not None and s.high is not None else []:
        edge = [place(x, high) for x, _, high in run] + [place(x, low) for x, low, _ in reversed(run)]
        parts.append(tag("polygon", points=_path(edge), class_=f"band {colour}"))
    points = _runs(list(zip(s.x, s.y)))
    for run in points:
        if len(run) > 1:
            parts.append(tag("polyline", points=_path([place(x, y) for x, y in run]), class_=f"curve {colour}{dashed}"))
    flat = [point for run in points for point in run]
    for x, y in flat[:: max(1, -(-len(flat) // HOVER_POINTS))]:
        across, up = place(x, y)
        title = tag("title", f"{s.name} at {number(x)}: {number(y, percent)}")
        lone = "bar" if len(flat) == 1 else "hit"
        parts.append(tag("circle", title, cx=f"{across:.1f}", cy=f"{up:.1f}", r=4, class_=f"{lone} {colour}"))
    return tag("g", *parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def scatter_chart(
    series: Sequence[Series], *, x_label: str, y_label: str, height: int = 380, width: int = WIDTH
) -> Markup:
    """Points over two axes, each with its zero line, a legend above, and readings on hover. Bands are not drawn."""
    series = [replace(s, name=cut(s.name, MAX_NAME)) for s in series]
    names = [f"{y_label}: {s.name}" if index == 0 else s.name for index, s in enumerate(series)]
    places, down = _places(names, 8, width)
    top, height = TOP + down, height + down
    x_low, x_high = _range([0.0, *(x for s in series for x in s.x)])
    y_low, y_high = _range([0.0, *(y for s in series for y in s.y)])
    bottom, right = height - BOTTOM, width - RIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_low) / (x_high - x_low), (y - y_low) / (y_high - y_low)
        return LEFT + 6 + across * (right - LEFT - 12), bottom - 6 - up * (bottom - top - 12)

    def vertical(x: float, class_: str) -> Markup:
        return tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=top, y2=bottom, class_=class_)

    def horizontal(y: float, class_: str) -> Markup:
        return tag("line", x1=LEFT, x2=right, y1=f"{y:.1f}", y2=f"{y:.1f}", class_=class_)

    parts: list[Markup] = []
    for tick in ticks(y_low, y_high):
        y = place(0, tick)[1]
        parts += [horizontal(y, "grid"), _text(LEFT - 8, y + 4, number(tick), "end")]
    for tick in ticks(x_low, x_high, _tick_count(width)):
        x = place(tick, 0)[0]
        parts += [vertical(x, "grid"), _text(x, bottom + 16, number(tick), "middle")]
    parts += [vertical(place(0, 0)[0], "whisker"), horizontal(place(0, 0)[1], "whisker")]
    parts.append(_text((LEFT + right) / 2, height - 4, x_label, "middle"))
    for index, (s, name, (x, y)) in enumerate(zip(series, names, places)):
        colour = f"bar {_colour(index, s)}"
        parts.append(tag("circle", cx=f"{x + 5:.0f}", cy=f"{y + 8:.0f}", r=4, class_=colour))
        parts.append(_text(x + 14, y + 12, name))
        for x, y in zip(s.x, s.y):
            if isfinite(x) and isfinite(y):
                across, up = place(x, y)
                title = tag("title", f"{s.name}: {number(x)}, {number(y)}")
                parts.append(tag("circle", title, cx=f"{across:.1f}", cy=f"{up:.1f}", r=3.5, class_=colour))
    return _figure("", height, *parts, width=width)


def bar_chart(
    bars: Sequence[Bar], *, caption: str = "", percent: bool = False, x_range: tuple[float, float] | None = None
) -> Markup:
    """Horizontal bars, one per row, with whiskers for intervals; the axis starts at 0 unless a value is below it."""
    bars = [replace(b, label=cut(b.label, MAX_NAME), note=cut(b.note, MAX_NAME)) for b in bars]
    finite = [v for b in bars for v in (b.value, b.low, b.high) if v is not None and isfinite(v)]
    low, high = x_range or _range([0.0, *finite])
    left = min(230.0, 14 + 6.2 * max((len(b.label) for b in bars), default=0))
    right = WIDTH - 150.0
    row = 28
    height = row * len(bars) + 22

    def place(value: float) -> float:
        return left + min(1.0, max(0.0, (value - low) / (high - low))) * (right - left)

    track = {"x": f"{left:.1f}", "width": f"{right - left:.1f}", "height": 16, "rx": 3, "class": "track"}
    parts = [tag("rect", **track, y=row * i + 5) for i in range(len(bars))]
    parts += [_text(place(tick), height - 4, number(tick, percent), "middle") for tick in ticks(low, high)]
    for i, bar in enumerate(bars):
        start, end, middle = place(max(low, 0.0)), place(bar.value if isfinite(bar.value) else 0.0), row * i + 13
        reading = number(round(bar.value, 4), percent)
        title = f"{bar.label}: {reading}"
        if bar.low is not None and bar.high is not None:
            title += f" ({number(bar.low, percent)} to {number(bar.high, percent)})"
        box = {
            "x": f"{min(start, end):.1f}",
            "y": row * i + 5,
            "width": f"{abs(end - start):.1f}",
            "height": 16,
            "rx": 3,
        }
        parts.append(tag("rect", tag("title", title), **box, class_="bar c0"))
        if bar.low is not None and bar.high is not None:
            ends = f"{place(bar.low):.1f}", f"{place(bar.high):.1f}"
            parts.append(tag("line", x1=ends[0], x2=ends[1], y1=middle, y2=middle, class_="whisker"))
            parts += [tag("line", x1=x, x2=x, y1=middle - 4, y2=middle + 4, class_="whisker") for x in ends]
        parts.append(_text(left - 10, middle + 4, bar.label, "end", "strong"))
        parts.append(_text(right + 10, middle + 4, " · ".join(filter(None, (reading, bar.note)))))
    return _figure(caption, height, *parts)

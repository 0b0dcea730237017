"""What `docs/study.md` says of the results: Markdown between marks, so that nobody types a figure."""

import re
from collections.abc import Iterable, Mapping, Sequence

from designs import Study
from figures import TITLES, in_points
from inference import LEAST, Estimate
from outcomes import FIRST, LEVEL, Contrast, Endpoint, episodes_played, noticed
from tables import Row


class PageError(ValueError):
    """The page has no place for some results; the message says what to add."""


def replaced(page: str, name: str, text: str) -> str:
    """`page` with `text` between `<!-- study:NAME:begin -->` and `<!-- study:NAME:end -->`.

    Raises:
        PageError: the two are not there, once each and in this order.
    """
    begin, end = f"<!-- study:{name}:begin -->", f"<!-- study:{name}:end -->"
    parts = re.split(f"{re.escape(begin)}|{re.escape(end)}", page)
    if len(parts) != 3 or page.find(begin) > page.find(end):
        raise PageError(f"the page has no place for {name}: add lines {begin} and {end}, once each")
    return f"{parts[0]}{begin}\n{text.strip()}\n{end}{parts[2]}"


def study_text(
    study: Study,
    arms: Mapping[str, Mapping[int, Row]],
    means: Mapping[Endpoint, Mapping[str, Estimate]],
    contrasts: Mapping[Endpoint, Sequence[Contrast]],
    more: Iterable[str],
    drawn: Iterable[str],
) -> str:
    """Tables of means, of what was predicted and of contrasts, `more` paragraphs, and the figures. arms: rows of runs
    by arm and seed."""
    runs = sum(map(len, arms.values()))
    parts = [
        f"{runs} of {len(study.arms) * len(study.seeds)} runs. Means over seeds in percent, differences in points; "
        f"in brackets 95 % intervals, uncorrected; no interval and no band below {LEAST} seeds. They are over seeds, "
        "those of held-out success over seeds and games, and so wider than its p-values, which are over seeds alone. "
        "Success over training is its mean over all episodes played: the area under the curve. It alone decides; the "
        "other endpoints describe, and their p-values, each table corrected by itself, claim nothing.",
        _means(study, arms, means),
        *_verdicts(study, contrasts),
    ]
    parts += [_contrasts(endpoint, found) for endpoint, found in contrasts.items()]
    if study.noticed:
        parts.append(_noticed({endpoint: noticed(study, arms, endpoint) for endpoint in contrasts}))
    parts += more
    parts += [image(f"{study.name}-{name}", TITLES[name]) for name in drawn]
    return "\n\n".join(parts)


def image(name: str, title: str) -> str:
    """A figure of the page."""
    return f"![{title}](assets/study/{name}.svg)"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _means(
    study: Study, arms: Mapping[str, Mapping[int, Row]], means: Mapping[Endpoint, Mapping[str, Estimate]]
) -> str:
    played = episodes_played(arms)
    rows: list[list[object]] = []
    for arm in study.arms:
        episodes = [f"{played[arm]:.0f}" if arm in played else "–"] if played else []
        found = (_in_points(of.get(arm), signed=False) for of in means.values())
        rows.append([f"`{arm}`", len(arms[arm]), *episodes, *found])
    heads = ["arm", "seeds", *(["episodes played"] if played else []), *(endpoint.name for endpoint in means)]
    return table(heads, rows)


def _verdicts(study: Study, contrasts: Mapping[Endpoint, Sequence[Contrast]]) -> list[str]:
    """What was predicted, and whether it holds by the first endpoint; nothing for a study that predicts nothing."""
    rows = [
        (
            f"`{c.arm}` {'above' if c.predicted > 0 else 'below'} `{c.baseline}`",
            f"`{study.config(c.arm, study.seeds[0]).algorithm.aggregate}`",
            *(_in_points(c.difference, signed=True), p_text(c.p_corrected), VERDICTS[c.holds]),
        )
        for endpoint, found in contrasts.items()
        for c in found
        if endpoint.column == FIRST and c.predicted
    ]
    rule = (
        "**Hypotheses**. When all seeds are in, one holds if the difference in success over training has the predicted "
        f"sign and its corrected p is below {LEVEL:g}."
    )
    heads = ("hypothesis", "loss", "difference", "corrected p", "verdict")
    return [rule, table(heads, rows)] if rows else []


VERDICTS = {True: "holds", False: "does not hold", None: "not complete yet"}


def _contrasts(endpoint: Endpoint, found: Sequence[Contrast]) -> str:
    rows = (
        (
            *(f"`{c.arm}` − `{c.baseline}`", len(c.seeds), _in_points(c.difference, signed=True)),
            *(p_text(c.p), p_text(c.p_corrected), detectable_text(c)),
        )
        for c in found
    )
    level = next((f", p < {c.level:.2g} (Holm's strictest step)" for c in found if c.level), "")
    heads = ("contrast", "seeds", "difference", "p", "corrected p", f"detectable at 80 % power{level}")
    return f"**{endpoint.name[0].upper()}{endpoint.name[1:]}**\n\n{table(heads, rows)}"


def _noticed(found: Mapping[Endpoint, Sequence[Contrast]]) -> str:
    """Arms compared by all endpoints."""
    rows = (
        (f"`{of[0].arm}` − `{of[0].baseline}`", *(_in_points(c.difference, signed=True) for c in of))
        for of in zip(*found.values(), strict=True)
    )
    heading = (
        "**Not registered**: compared after the runs had been seen, and so a hint for other studies, not a finding."
    )
    return f"{heading}\n\n{table(('contrast', *(endpoint.name for endpoint in found)), rows)}"


def _in_points(found: Estimate | None, *, signed: bool) -> str:
    return "–" if found is None else in_points(found, signed=signed)


def p_text(p: float | None) -> str:
    """Three decimals."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def detectable_text(contrast: Contrast) -> str:
    """In points; "–" where so few pairs cannot give so small a p, whatever they show."""
    return "–" if contrast.detectable is None else f"{100 * contrast.detectable:.1f}"

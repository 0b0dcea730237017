"""The report of an evaluation: key figures, success by task type and by steps, sample episodes, configuration."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from aem_agent.report.charts import Bar, Series, bar_chart, line_chart
from aem_agent.report.episodes import episode_view, outcome
from aem_agent.report.html import Markup, join, page, paragraph, table, tiles, warning
from aem_agent.stats import Counts, clustered_wilson
from aem_agent.summary import Summary, format_cost, format_interval, format_rate
from aem_agent.types import Episode
from aem_envs.sanitize import counted

SAMPLE = 60
"""Episodes shown in a report at most: a page of thousands opens slowly."""


def evaluation_page(summary: Summary, config: Mapping[str, Any], episodes: Sequence[Episode]) -> str:
    """The whole document. `config` has `config` and `versions` of `config.json`; `episodes` are in the order that
    numbers them."""
    asked = config.get("config") or {}
    sections: list[tuple[str, str]] = [("", join(_warnings(summary), _figures(summary)))]
    if len(summary.by_task_type) > 1:
        sections.append(("Success by task type", _by_type(summary)))
        if summary.overall.graded:
            sections.append(("Mean score by task type", _scores_by_type(summary)))
    completed = [e for e in episodes if e.completed]
    if any(e.won for e in completed):
        sections.append(("Success by number of steps", _by_steps(completed)))
    if len(summary.pass_at_k) > 1:
        sections.append(("pass@k", _pass_at_k(summary)))
    sections.append(("How episodes ended", _ends(summary)))
    if summary.phases or summary.details:
        sections.append(("Inside an episode", _inside(summary)))
    sections.append(("Episodes", _episodes(episodes)))
    sections.append(("Configuration", _configuration(config)))
    subtitle = f"model {asked.get('model', '?')} · split {summary.split} · data {summary.data_hash}"
    subtitle += f" · {summary.engine}" if summary.engine else ""
    return page(
        f"Evaluation on {summary.env_id}", sections, subtitle=subtitle, footer="Written by aem-eval (aem-suite)."
    )


def _warnings(s: Summary) -> Markup:
    """What a reader must know before believing the figures."""
    lines = []
    if s.errors:
        kinds = ", ".join(f"{n} × {kind}" for kind, n in s.error_types.items())
        lines.append(
            f"{counted(s.errors, 'episode')} ended in an infrastructure error ({kinds}); no rate below counts them."
        )
    if s.missing:
        lines.append(f"{counted(s.missing, 'planned episode')} without a record: the run is not complete.")
    return join(*map(warning, lines))


def _figures(s: Summary) -> Markup:
    def short(value: float | None, form: str = ".2f") -> str:
        return "–" if value is None else format(value, form)

    attempts = "" if s.n == s.tasks else f" on {counted(s.tasks, 'task')}"
    figures = [
        ("Success", format_rate(s.success_rate), f"95 %: {format_interval(s.success_interval)}"),
        ("Episodes", s.n, f"{s.successes} won{attempts}"),
        (
            "Mean score",
            short(s.mean_score, ".3f"),
            f"95 %: {s.score_interval.low:.3f}–{s.score_interval.high:.3f}"
            if s.overall.graded
            else f"mean return {short(s.mean_return, '.3f')}",
        ),
        ("Mean steps", short(s.mean_steps, ".1f"), f"{sum(s.truncations.values())} cut off by a limit"),
        (
            "Invalid actions",
            format_rate(s.invalid_action_rate),
            f"{format_rate(s.invalid_format_rate)} unreadable",
        ),
    ]
    if s.response_tokens:
        figures.append(("Response tokens", f"{s.response_tokens:,}", f"{s.prompt_tokens:,} prompt tokens"))
    if s.cost is not None:
        figures.append(("Cost", format_cost(s.cost), "US dollars"))
    return tiles(figures)


def _by_type(s: Summary) -> Markup:
    bars = [
        Bar(kind or "(none)", r.success_rate or 0.0, *r.success_interval, note=f"{r.successes} of {r.n}")
        for kind, r in s.by_task_type.items()
    ]
    rows = [
        [kind or "(none)", r.tasks, r.n, format_rate(r.success_rate), format_interval(r.success_interval),
         f"{r.mean_score:.3f}", f"{r.mean_steps:.1f}"]
        for kind, r in s.by_task_type.items()
    ]  # fmt: skip
    headers = ["task type", "tasks", "episodes", "success", "95 % interval", "mean score", "mean steps"]
    return join(bar_chart(bars, percent=True, x_range=(0.0, 1.0)), table(headers, rows, numbers=range(1, 7)))


def _scores_by_type(s: Summary) -> Markup:
    bars = [
        Bar(kind or "(none)", r.mean_score or 0.0, *r.score_interval, note=f"{r.mean_score or 0.0:.3f}")
        for kind, r in s.by_task_type.items()
    ]
    return bar_chart(bars)


def _by_steps(completed: Sequence[Episode]) -> Markup:
    """Share of episodes won within k steps, with clustered intervals."""
    lengths: dict[str, list[float]] = defaultdict(list)
    for episode in completed:
        lengths[episode.task_id].append(len(episode.turns) if episode.won else inf)
    steps = range(max(len(e.turns) for e in completed) + 1)
    counts = [[Counts(sum(n <= k for n in task), len(task)) for task in lengths.values()] for k in steps]
    shares = [sum(c.successes for c in at_k) / len(completed) for at_k in counts]
    bands = [clustered_wilson(at_k) for at_k in counts]
    curve = Series("won within so many steps", steps, shares, [b.low for b in bands], [b.high for b in bands])
    return line_chart([curve], x_label="steps", percent=True, y_range=(0.0, 1.0))


def _pass_at_k(s: Summary) -> Markup:
    bars = [Bar(f"pass@{k}", share) for k, share in s.pass_at_k.items()]
    note = "The chance that at least one of k attempts at a task wins, unbiased, mean over tasks."
    return join(bar_chart(bars, percent=True, x_range=(0.0, 1.0)), paragraph(note, note=True))


def _ends(s: Summary) -> Markup:
    cut = sum(s.truncations.values())
    rows: list[tuple[str, int]] = [("won", s.successes), ("ended otherwise, not won", max(0, s.n - s.successes - cut))]
    rows += [(f"verdict: {verdict}", n) for verdict, n in s.verdicts.items()]
    rows += [(f"truncated: {reason}", n) for reason, n in s.truncations.items()]
    rows += [(f"error: {kind}", n) for kind, n in s.error_types.items()]
    rows += [("not played", s.missing)] if s.missing else []
    return table(["end", "episodes"], rows)


def _inside(s: Summary) -> Markup:
    """What the environment told of its episodes: seconds by phase, and means of its other figures."""
    bars = [Bar(phase, seconds, note="s") for phase, seconds in s.phases.items()]
    rows = [[name, f"{value:.3f}"] for name, value in s.details.items()]
    parts = [paragraph("Mean seconds of an episode, by phase.", note=True), bar_chart(bars)] if bars else []
    parts += [table(["figure at the end", "mean"], rows, numbers=[1])] if rows else []
    return join(*parts)


def sample(episodes: Sequence[Episode], limit: int = SAMPLE) -> list[int]:
    """Indices of the episodes to show, in order: errors, failures and wins take turns until `limit` are found."""
    kinds: dict[str, list[int]] = {"error": [], "lost": [], "won": []}
    for i, episode in enumerate(episodes):
        word = outcome(episode)[0]
        kinds[word if word in kinds else "lost"].append(i)
    rounds = max((len(found) for found in kinds.values()), default=0)
    turn_by_turn = [found[i] for i in range(rounds) for found in kinds.values() if i < len(found)]
    return sorted(turn_by_turn[:limit])


def _episodes(episodes: Sequence[Episode]) -> Markup:
    shown = sample(episodes)
    note = f"{len(shown)} of {len(episodes)} episodes; aem-eval view DIR shows all of them, and every turn."
    return join(paragraph(note, note=True), *(episode_view(episodes[i], number=i + 1) for i in shown))


def _configuration(config: Mapping[str, Any]) -> Markup:
    rows: list[tuple[str, str]] = []
    for part in ("config", "versions"):
        for key, value in (config.get(part) or {}).items():
            rows.append((key, "–" if value is None or value == {} else str(value)))
    return table(["setting", "value"], rows)

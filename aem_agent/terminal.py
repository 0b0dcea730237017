"""What evaluations look like in a terminal: progress, tables, episodes. All foreign text is sanitised."""

import threading
import time
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from aem_agent.comparison import Comparison
from aem_agent.engines.endpoint_usage import Usage
from aem_agent.report.episodes import outcome
from aem_agent.summary import Rates, Summary, format_cost, format_interval, format_rate, format_score, response_tokens
from aem_agent.types import Episode
from aem_envs.sanitize import counted, cut, plain

COLOURS = {"good": "green", "bad": "red", "warn": "yellow", "soft": "dim"}

ERROR_WIDTH = 300
"""Characters of an error's message that are shown below the table."""


CELL_WIDTH, TEXT_LENGTH = 200, 20_000
"""Characters shown at most of a name, and of a text of an episode."""


def safe(text: str, most: int = CELL_WIDTH) -> str:
    """`text` without control characters, without meaning to rich's markup, and no longer than a name is."""
    return escape(plain(cut(text, most)))


def _whole(text: str) -> str:
    return safe(text, TEXT_LENGTH)


class EvalProgress:
    """Episodes done, success so far, errors, rates, time left: on stderr, in a terminal only, after `delay` seconds.

    Call it with each episode that ends; use it as a context.
    """

    def __init__(self, total: int, done: int = 0, *, delay: float = 2.0, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._started = time.monotonic()
        self._completed = self._won = self._errors = self._tokens = 0
        self._bar = Progress(
            TextColumn("[bold]{task.completed}[/]/{task.total} episodes"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total, completed=done)
        self._timer = threading.Timer(delay, self._bar.start)
        self._timer.daemon = True

    def __call__(self, episode: Episode) -> None:
        self._completed += episode.completed
        self._won += episode.won and episode.completed
        self._errors += not episode.completed
        self._tokens += sum(response_tokens(turn) for turn in episode.turns)
        self._bar.update(self._task, advance=1, description=self._describe())

    def interrupted(self) -> None:
        """Say what the first Ctrl-C does: nothing else shows until the episodes in flight have ended."""
        text = "\ninterrupted: finishing the episodes in flight; Ctrl-C again stops at once"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _describe(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        played = self._completed + self._errors
        parts = [f"success {format_rate(self._won / self._completed if self._completed else None)}"]
        parts += [f"[yellow]errors {self._errors}[/]"] if self._errors else []
        parts.append(f"{played / seconds:.1f} episodes/s")
        parts += [f"{self._tokens / seconds:.0f} tokens/s"] if self._tokens else []
        return " · ".join(parts)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._timer.cancel()
        if self._bar.live.is_started:  # one that never started would still print an empty line
            self._bar.stop()


def _row(name: str, r: Rates, graded: bool) -> tuple[str, ...]:
    return (
        name,
        f"{r.successes}/{r.n}",
        format_rate(r.success_rate),
        format_interval(r.success_interval),
        format_score(r.mean_score, r.score_interval if graded else None),
        "–" if r.mean_steps is None else f"{r.mean_steps:.1f}",
    )


def print_summary(console: Console, summary: Summary, model: str) -> None:
    """The table at the end of a run, and what its reader must know besides."""
    console.print(f"[bold]{safe(summary.env_id)}[/] · {safe(summary.split)} · {safe(model)}")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("task type")
    graded = summary.overall.graded
    for heading in ("won", "success", "95 % interval", "score (95 %)" if graded else "score", "steps"):
        table.add_column(heading, justify="right")
    for kind, r in summary.by_task_type.items():
        table.add_row(*_row(safe(kind) or "(none)", r, graded))
    table.add_section()
    table.add_row(*_row("all", summary.overall, graded), style="bold")
    console.print(table)
    notes = [f"invalid actions {format_rate(summary.invalid_action_rate)}"]
    notes += [f"pass@{k} {format_rate(p)}" for k, p in summary.pass_at_k.items() if k != "1"]
    notes += [f"cut off by {safe(reason)}: {n}" for reason, n in summary.truncations.items()]
    notes += [f"{safe(verdict)}: {n}" for verdict, n in summary.verdicts.items()]
    notes += [f"{summary.prompt_tokens:,} prompt tokens"] if summary.prompt_tokens else []
    notes += [f"{summary.response_tokens:,} response tokens"] if summary.response_tokens else []
    notes += [f"cost {format_cost(summary.cost)}"] if summary.cost is not None else []
    console.print(" · ".join(notes), style="dim")
    inside = [f"{safe(name)} {value:.3g}" for name, value in summary.details.items()]
    inside += [f"{safe(phase)} {seconds:.2f} s" for phase, seconds in summary.phases.items()]
    if inside:
        console.print(f"a mean episode: {' · '.join(inside)}", style="dim")
    if summary.n:
        on = f" · {safe(summary.engine)}" if summary.engine else ""
        console.print(f"data {safe(summary.data_hash)}{on}", style="dim", soft_wrap=True)
    if summary.errors:
        console.print(f"{counted(summary.errors, 'episode')} ended in an error: in no rate above", style="yellow")
        for kind, n in summary.error_types.items():
            first = " ".join(summary.first_errors.get(kind, "").split())
            console.print(f"  {n} × {safe(kind)}: {safe(first, ERROR_WIDTH)}", style="yellow", soft_wrap=True)
    if summary.missing:
        verb = "was" if summary.missing == 1 else "were"
        console.print(f"{counted(summary.missing, 'planned episode')} {verb} not played", style="yellow")


def print_usage(console: Console, usage: Usage | None) -> None:
    """What an endpoint was asked for in this process, tries and episodes that failed included; nothing of others."""
    if usage is None or not usage.requests:
        return
    notes = [counted(usage.requests, "answer")]
    notes += [f"{usage.retries} tried again"] if usage.retries else []
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    notes += [f"{usage.prompt_tokens:,} prompt tokens{cached}"] if usage.prompt_tokens else []
    notes += [f"{usage.completion_tokens:,} response tokens"] if usage.completion_tokens else []
    notes += [f"cost {format_cost(usage.cost)}"] if usage.cost is not None else []
    console.print(f"endpoint, this time: {' · '.join(notes)}", style="dim", highlight=False, soft_wrap=True)


def print_comparison(console: Console, c: Comparison, a: str, b: str) -> None:
    """B against A."""

    def points(value: float, scale: float, unit: str) -> str:
        return f"{scale * value:+.1f}{unit}" if scale == 100 else f"{value:+.3f}"

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for heading in ("tasks", "A", "B", "B − A", "95 % interval", "P(B > A)"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [(metric, c.tasks, *c.means[metric], c.differences[metric]) for metric in c.differences]
    rows += [(f"success, {kind or '(none)'}", *found) for kind, found in c.success_by_task_type.items()]
    for name, tasks, mean_a, mean_b, d in rows:
        scale, unit = (100.0, " pt") if name.startswith("success") else (1.0, "")
        shown = (format_rate(mean_a), format_rate(mean_b)) if unit else (f"{mean_a:.3f}", f"{mean_b:.3f}")
        interval = f"{points(d.interval.low, scale, '')} to {points(d.interval.high, scale, '')}"
        cells = (*shown, points(d.mean, scale, unit), interval, f"{d.probability_positive:.3f}")
        table.add_row(safe(name), str(tasks), *cells)
    console.print(f"A  {safe(a)}\nB  {safe(b)}")
    console.print(table)
    if c.only_a or c.only_b:
        console.print(f"left out: {counted(c.only_a, 'task')} only in A, {c.only_b} only in B", style="dim")


def print_episode(console: Console, episode: Episode, number: int, total: int) -> None:
    """A whole episode as text, neither wrapped nor highlighted: rich takes seconds for a word of 10,000 characters."""

    def show(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    word, style = outcome(episode)
    facts = [f"[{COLOURS[style]}]{word}[/]", f"return {episode.return_:g}", f"score {episode.score:g}"]
    facts += [f"truncated: {safe(episode.truncation_reason or '')}"] if episode.truncated else []
    show(f"[bold]episode {number} of {total}[/]  {safe(episode.task_id)}  {safe(episode.task_type)}")
    show(" · ".join(facts))
    for i, turn in enumerate(episode.turns, 1):
        show(f"\n{_whole(turn.observation)}")
        if turn.response.text != turn.action:
            show(f"[dim]{_whole(turn.response.text)}[/]")
        flags = [] if turn.format_valid else [f"no action found: {safe(turn.format_error or '')}"]
        flags += ["not accepted"] if turn.format_valid and not turn.action_valid else []
        flags += [f"reward {turn.reward:g}"] if turn.reward else []
        show(f"[bold cyan]{i:>3} > {_whole(turn.action)}[/]" + (f"  [yellow]({'; '.join(flags)})[/]" if flags else ""))
    if episode.final_observation:
        show(f"\n{_whole(episode.final_observation)}")
    if episode.error:
        show(f"\n[yellow]{_whole(episode.error)}[/]")

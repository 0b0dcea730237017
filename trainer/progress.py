"""What a person sees while a run goes on, and the table at its end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table

from trainer.evaluation import Evaluation

PLAIN_EVERY = 15.0
"""Seconds between lines where the output is no terminal."""


class Reporter:
    """Progress bars with the time left in a terminal; a line now and then elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bar: Progress | None = None
        self._advance: Callable[[int, str], None] = lambda done, note: None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Something whose length is not known."""
        if self._bar is None and self.console.is_terminal:
            with self.console.status(name):
                yield
            return
        self.console.print(f"{name} …", highlight=False)
        yield

    @contextmanager
    def steps(self, name: str, total: int, start: int = 0) -> Iterator[Callable[[int, str], None]]:
        """`total` steps, `start` of them done; yields a function (done, note)."""
        if total <= start:
            yield lambda done, note: None
            return
        columns = (
            SpinnerColumn(),
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeLeft(),
            TextColumn("{task.fields[note]}"),
        )
        begun = shown = monotonic()
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bar:
            task = bar.add_task(name, total=total, completed=start, note="")

            def advance(done: int, note: str) -> None:
                nonlocal shown
                bar.update(task, completed=done, note=note)
                now = monotonic()
                if not self.console.is_terminal and (now - shown > PLAIN_EVERY or done == total):
                    shown = now
                    left = (now - begun) / max(1, done - start) * (total - done)
                    self.console.print(f"{name} {done}/{total}, {note}, {left:.0f} s left", highlight=False)

            self._bar, self._advance = bar, advance
            try:
                yield advance
            finally:
                self._bar, self._advance = None, lambda done, note: None

    def rl_step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        """Show an RL step that is done."""
        note = f"success {record['success']:.2f}, token entropy {record['token_entropy']:.2f}"
        self._advance(step, note)

    def evaluated(self, when: str, found: Sequence[Evaluation]) -> None:
        """Show an evaluation."""
        parts = [
            f"{'greedy' if e.temperature == 0 else f'T={e.temperature:g}'} {100 * e.success:.1f} % "
            f"({100 * e.interval.low:.0f}–{100 * e.interval.high:.0f} %)"
            + (f" score {e.score:.3f}" if e.graded else "")
            + (f", {e.errors} errors" if e.errors else "")
            for e in found
        ]
        where = {"before": "before RL", "during": "during RL", "after": "after RL"}[when]
        self.console.print(f"success on {found[0].split} {where}: {', '.join(parts)}", highlight=False)

    def finished(self, summary: Mapping[str, Any], folder: Path) -> None:
        """The table at the end."""
        splits = {record["split"] for record in summary["after"].values()}
        table = Table(title=f"Success on {', '.join(sorted(splits))} (95 % Wilson interval)")
        for column in ("", "before RL", "after RL", "gain", "games"):
            table.add_column(column, justify="left" if not column else "right")
        for mode in ("greedy", "sampled"):
            if mode not in summary["before"] or mode not in summary["after"]:
                continue
            before, after = summary["before"][mode], summary["after"][mode]
            label = "greedy" if mode == "greedy" else f"temperature {after['temperature']:g}"
            gain = f"{100 * (after['success'] - before['success']):+.1f} points"
            table.add_row(label, _share(before), _share(after), gain, str(after["n"]))
            if before.get("graded") or after.get("graded"):
                gain = f"{after['mean_score'] - before['mean_score']:+.3f}"
                table.add_row("  mean score", _score(before), _score(after), gain, "")
        self.console.print(table)
        seconds = summary["seconds"]
        total = sum(seconds.values())
        shown = ", ".join(f"{phase} {s:.1f} ({100 * s / max(total, 1e-9):.1f} %)" for phase, s in seconds.items())
        self.console.print(f"seconds: {shown}; {total:.0f} in all", highlight=False, soft_wrap=True)
        self.console.print(f"report:  {folder / 'report.html'}", highlight=False, soft_wrap=True)
        self.console.print(f"model:   {folder / 'best'}", highlight=False, soft_wrap=True)


def _share(record: Mapping[str, Any]) -> str:
    return f"{100 * record['success']:.1f} % ({100 * record['low']:.0f}–{100 * record['high']:.0f})"


def _score(record: Mapping[str, Any]) -> str:
    return f"{record['mean_score']:.3f} ({record['score_low']:.2f}–{record['score_high']:.2f})"

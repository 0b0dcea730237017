"""What a person sees while a run goes on, and the table at its end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table

from aem_envs.sanitize import plain
from trainer.evaluation import Evaluation

PLAIN_EVERY = 15.0
"""Seconds between lines where the output is no terminal."""


class Reporter:
    """Progress bars with the time left in a terminal; a line now and then elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bar: Progress | None = None
        self._advance: Callable[[int, str], None] = lambda done, note: None
        self._goes_on: Callable[[str], None] = lambda words: None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Something whose length is not known."""
        if self._bar is None and self.console.is_terminal:
            with self.console.status(name) as status, self._telling(lambda words: status.update(words)):
                yield
            return
        self.console.print(f"{name} …", highlight=False)
        if self._bar is not None:
            yield
            return
        with self._telling(self._now_and_then(lambda words: self.console.print(words, highlight=False))):
            yield

    def goes_on(self, words: str) -> None:
        """Show how what is in hand goes on; any thread may call this, a few times a second."""
        self._goes_on(words)

    @contextmanager
    def _telling(self, goes_on: Callable[[str], None]) -> Iterator[None]:
        before, self._goes_on = self._goes_on, goes_on
        try:
            yield
        finally:
            self._goes_on = before

    def _now_and_then(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """Where the output is no terminal: a line every `PLAIN_EVERY` seconds."""
        said = monotonic()

        def goes_on(words: str) -> None:
            nonlocal said
            now = monotonic()
            if now - said > PLAIN_EVERY:
                said = now
                say(words)

        return goes_on

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
        begun = shown = stepped = monotonic()
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bar:
            task = bar.add_task(name, total=total, completed=start, note="")

            last = ""

            def advance(done: int, note: str) -> None:
                nonlocal shown, stepped, last
                last = note
                bar.update(task, completed=done, note=note)
                now = stepped = monotonic()
                if not self.console.is_terminal and (now - shown > PLAIN_EVERY or done == total):
                    shown = now
                    left = (now - begun) / max(1, done - start) * (total - done)
                    words = f"{name} {done}/{total}, {note}, {left:.0f} s left"
                    self.console.print(words, highlight=False, soft_wrap=True)

            def goes_on(words: str) -> None:
                bar.update(task, note=f"{last} │ {words}" if last else words)

            def line(words: str) -> None:
                if monotonic() - stepped > PLAIN_EVERY:  # else the steps themselves tell how it goes
                    self.console.print(f"{name}, {words}", highlight=False, soft_wrap=True)

            self._bar, self._advance = bar, advance
            try:
                with self._telling(goes_on if self.console.is_terminal else self._now_and_then(line)):
                    yield advance
            finally:
                self._bar, self._advance = None, lambda done, note: None

    def rl_step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        """Show an RL step that is done."""
        note = f"success {record['success_played']:.2f}"
        note += (
            ", no group to learn from" if record.get("skipped") else f", token entropy {record['token_entropy']:.2f}"
        )
        note += f", {record['tokens_per_second']:.0f} tokens/s"
        self._advance(step, note)

    def warn(self, words: str) -> None:
        """Say something that matters, beside the bars."""
        self.console.print(plain(words), style="bold yellow", highlight=False, markup=False, soft_wrap=True)

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
        words = plain(f"success on {found[0].split} {where}: {', '.join(parts)}")
        self.console.print(words, highlight=False, markup=False)

    def finished(self, summary: Mapping[str, Any], folder: Path) -> None:
        """The table at the end."""
        splits = {record["split"] for record in summary["after"].values()}
        table = Table(title=escape(plain(f"Success on {', '.join(sorted(splits))} (95 % Wilson interval)")))
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
        lines = (
            f"seconds: {shown}; {total:.0f} in all",
            f"report:  {folder / 'report.html'}",
            f"model:   {folder / 'best'}",
        )
        for line in lines:
            self.console.print(plain(line), highlight=False, markup=False, soft_wrap=True)


def _share(record: Mapping[str, Any]) -> str:
    return f"{100 * record['success']:.1f} % ({100 * record['low']:.0f}–{100 * record['high']:.0f})"


def _score(record: Mapping[str, Any]) -> str:
    return f"{record['mean_score']:.3f} ({record['score_low']:.2f}–{record['score_high']:.2f})"


def silent() -> Reporter:
    """Of a process that is not the first of several: it shows nothing."""
    return Reporter(Console(quiet=True))

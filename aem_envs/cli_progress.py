"""Progress bars for commands that take longer than a moment, on stderr: what stdout holds may be read by programs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def byte_bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for every name that is reported: (name, bytes so far, bytes in all or None)."""
    with _bars(DownloadColumn()) as bars:
        shown: dict[str, Any] = {}

        def progress(name: str, done: int, total: int | None) -> None:
            if name not in shown:
                shown[name] = bars.add_task(name, total=total)
            bars.update(shown[name], completed=done, total=total)

        yield progress


@contextmanager
def count_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is told how many are done."""
    with _bars(MofNCompleteColumn()) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


def _bars(count: ProgressColumn) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))

"""From run folders to the page."""

from pathlib import Path
from typing import Any

from aem_agent.comparison import Comparison, NothingInCommonError, compare
from aem_agent.evaluate import comparable
from aem_agent.report.html import is_page
from aem_agent.run_folder import RunFolder, differing, run_around
from aem_agent.types import AgentError
from aem_agent.viewer.chunks import ChunkWriter
from aem_agent.viewer.index import Index, columns, facts, read_run, section
from aem_agent.viewer.page import replaceable, write_page
from aem_agent.viewer.sources import is_training
from aem_agent.viewer.turns import number, text


class ViewerError(AgentError):
    """Runs that cannot be shown side by side, or a page that would take the place of something else."""


VERSION = 1
"""Of the page's data."""


def write_view(folder: RunFolder, out: Path | None = None) -> Path:
    """Write the page of one run, by default `view.html` in its folder; returns its path.

    Raises:
        ViewerError: something else is there already, or it would lie among a run's records.
        RecordError: damaged records.
        RunFolderError: a training run without recorded episodes.
        RecordWriteError: the page cannot be written.
    """
    path = _free(out or folder.path / "view.html")
    with ChunkWriter() as chunks:
        index = read_run(folder, chunks)
        head = {"version": VERSION, "runs": [_run(folder, index, path)], "comparison": None}
        write_page(path, f"{folder.path.resolve().name} · episodes", head, [chunks])
    return path


def write_comparison(a: RunFolder, b: RunFolder, out: Path | None = None) -> Path:
    """Write the page of two runs side by side, by default `compare.html` in B's folder; returns its path.

    Raises:
        ViewerError: as `write_view`; an evaluation beside a training run; no episode that both played.
        RecordError, RunFolderError, RecordWriteError: as `write_view`.
    """
    if is_training(a) != is_training(b):
        raise ViewerError("one is an evaluation, the other a training run: give two of a kind")
    path = _free(out or b.path / "compare.html")
    with ChunkWriter() as chunks_a, ChunkWriter() as chunks_b:
        left, right = read_run(a, chunks_a), read_run(b, chunks_b)
        pairs = _pairs(left, right)
        if not pairs:
            raise ViewerError("the two runs have no episode of a task in common: run both with the same split and -n")
        head = {
            "version": VERSION,
            "runs": [_run(a, left, path), _run(b, right, path)],
            "comparison": {
                "pairs": pairs,
                "summary": None if is_training(a) else _summary(left, right),
                "different": _different(a, b),
            },
        }
        write_page(path, f"{a.path.resolve().name} | {b.path.resolve().name}", head, [chunks_a, chunks_b])
    return path


def _free(path: Path) -> Path:
    """The path, if a page may be written there: nothing is replaced but another such page."""
    if not replaceable(path):
        raise ViewerError(f"{path} is there, and is no page of the viewer: name another file with --out")
    run = run_around(path)
    if run and (path.suffix.lower() != ".html" or path.name.lower() == "report.html"):
        raise ViewerError(f"{path} lies in the run folder {run}, among its records: name a new .html file with --out")
    return path


def _run(folder: RunFolder, index: Index, page: Path) -> dict[str, Any]:
    """A run as the page reads it."""
    beside = page.resolve().parent == folder.path.resolve() and is_page(folder.report_path)
    return facts(folder, index) | columns(index) | {"report": folder.report_path.name if beside else None}


def _pairs(left: Index, right: Index) -> list[tuple[int, int]]:
    """(episode of A, episode of B) of the same task and attempt, of a training also played at the same time."""

    def places(index: Index) -> dict[tuple[str, str, int], int]:
        return {
            (index.labels[row.source], row.episode.task_id, row.episode.repeat): i for i, row in enumerate(index.rows)
        }

    there = places(right)
    return [(i, there[key]) for key, i in places(left).items() if key in there]


def _different(a: RunFolder, b: RunFolder) -> list[str]:
    """Settings: of evaluations those that `compare` would refuse to compare over, of training runs all."""
    if is_training(a):
        old, new = ({**section(f.config, "config"), "description": None} for f in (a, b))
    else:
        old, new = (comparable({**f.config, "env": section(f.config, "env")}) for f in (a, b))
    return [text(line, 500) for line in differing(old, new)]


def _summary(left: Index, right: Index) -> dict[str, Any] | None:
    """The paired comparison over tasks: means and differences with their intervals. None if no task was completed in
    both: their episodes are shown all the same."""
    try:
        c: Comparison = compare(left.episodes(), right.episodes())
    except NothingInCommonError:
        return None
    metrics = {
        metric: {
            "a": number(c.means[metric][0]),
            "b": number(c.means[metric][1]),
            "difference": number(d.mean),
            "interval": [number(d.interval.low), number(d.interval.high)],
        }
        for metric, d in c.differences.items()
    }
    return {"tasks": c.tasks, "only_a": c.only_a, "only_b": c.only_b, "other_data": c.other_data, "metrics": metrics}

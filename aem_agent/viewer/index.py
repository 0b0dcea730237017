"""The list of a run's episodes: a row each, written as columns, and the rates over all of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from aem_agent.evaluation_record import missing
from aem_agent.run_folder import RunFolder
from aem_agent.summary import rates
from aem_agent.types import Episode, Response, Turn
from aem_agent.viewer.chunks import ChunkWriter
from aem_agent.viewer.sources import is_training, place, read, sources
from aem_agent.viewer.turns import episode_data, goal, number, text, training

_BLANK = Turn("", Response(""), "")
"""Stands for every turn of an episode whose contents are in the page already."""

MAX_NAME = 500
"""Characters of a task's name, a reason or an error in the list."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the list knows of an episode."""

    episode: Episode
    """Without contents: its turns are blank, as many as there were."""
    goal: str
    source: int
    chunk: int
    position: int
    entropy: float | None
    """Mean over turns of their mean token entropy, nats."""
    invalid: int
    """Turns whose response had no action, or one that was refused."""


@dataclass(slots=True)
class Index:
    """The rows of a run, in the order that numbers them."""

    rows: list[Row]
    labels: list[str] = field(default_factory=list)
    """Of the sources."""

    def episodes(self) -> list[Episode]:
        """All of them, without contents."""
        return [row.episode for row in self.rows]


def read_run(folder: RunFolder, chunks: ChunkWriter) -> Index:
    """Read a run once: contents go to `chunks`, one episode at a time, and what the list needs stays.

    Raises:
        RecordError: damaged records.
        RunFolderError: a training run without any.
    """
    newest: dict[tuple[int, str, str, int], Row] = {}
    found = sources(folder)
    for source_number, source in enumerate(found):
        for episode in read(source):
            chunk, position = chunks.add(episode_data(episode))
            entropies = [e for turn in episode.turns if (e := training(turn).get("entropy")) is not None]
            newest[(source_number, episode.split, episode.task_id, episode.repeat)] = Row(
                episode=replace(episode, turns=(_BLANK,) * len(episode.turns), final_observation=""),
                goal=goal(episode),
                source=source_number,
                chunk=chunk,
                position=position,
                entropy=sum(entropies) / len(entropies) if entropies else None,
                invalid=sum(not (turn.format_valid and turn.action_valid) for turn in episode.turns),
            )
    chunks.flush()
    rows = sorted(newest.values(), key=lambda row: place(row.source, row.episode))
    return Index(rows, [source.label for source in found])


def outcome(episode: Episode) -> tuple[str, str]:
    """(`won`, `lost`, `truncated` or `error`, why): three different things, kept apart."""
    if episode.error is not None:
        return "error", episode.error.partition(":")[0]
    if episode.won:
        return "won", ""
    return ("truncated", episode.truncation_reason or "") if episode.truncated else ("lost", "")


class _Names:
    """Distinct texts by number: as they are recorded, since two can look alike once they may be shown."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))

    def shown(self) -> list[str]:
        """By number, as the page may show them."""
        return [text(name, MAX_NAME) for name in self.known]


def columns(index: Index) -> dict[str, Any]:
    """The rows as the page reads them: lists of equal length, and the names that some of them count in."""
    tasks, types, reasons, goals = _Names(), _Names(), _Names(), _Names()
    ends = [outcome(row.episode) for row in index.rows]
    episodes = index.episodes()
    data: dict[str, Any] = {
        "task": [tasks.of(e.task_id) for e in episodes],
        "type": [types.of(e.task_type) for e in episodes],
        "goal": [goals.of(row.goal) for row in index.rows],
        "attempt": [e.repeat + 1 for e in episodes],
        "outcome": [end for end, _ in ends],
        "reason": [reasons.of(why) for _, why in ends],
        "turns": [len(e.turns) for e in episodes],
        "result": [number(e.return_) for e in episodes],
        "score": [number(e.score) for e in episodes],
        "entropy": [number(row.entropy) for row in index.rows],
        "invalid": [row.invalid for row in index.rows],
        "source": [row.source for row in index.rows],
        "chunk": [row.chunk for row in index.rows],
        "position": [row.position for row in index.rows],
    }
    names = {"task": tasks, "type": types, "goal": goals, "reason": reasons}
    return {
        "count": len(index.rows),
        "columns": data,
        "names": {name: these.shown() for name, these in names.items()} | {"source": index.labels},
    }


def section(config: Any, name: str) -> dict[str, Any]:
    """A part of a configuration; empty where it is absent, or no mapping (the file may be anybody's)."""
    found = config.get(name) if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def facts(folder: RunFolder, index: Index) -> dict[str, Any]:
    """What the page's head says of a run."""
    config = folder.config
    if is_training(folder):
        inner = section(config, "config")
        model = section(inner, "model")
        details = f"training · {section(inner, 'env').get('id', '')} · {model.get('path') or model.get('preset', '')}"
    else:
        details = " · ".join(str(config.get(key)) for key in ("env_id", "split", "model") if config.get(key))
    return {
        "name": text(folder.path.resolve().name, MAX_NAME),
        "details": text(details, MAX_NAME),
        "training": is_training(folder),
        "rates": None if is_training(folder) else _rates(index.episodes()),
        "missing": 0 if is_training(folder) else missing(config, len(index.rows)),
    }


def _rates(episodes: Iterable[Episode]) -> dict[str, Any] | None:
    """Success with its interval, as everywhere: over completed episodes, clustered by task."""
    completed = [e for e in episodes if e.completed]
    if not completed:
        return None
    found = rates(completed)
    return {
        "n": found.n,
        "won": found.successes,
        "success": found.success_rate,
        "interval": list(found.success_interval),
    }

"""Where the episodes of a run lie: one file of an evaluation, several of a training run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aem_agent.records import RunFolderError, located_episodes, read_episodes
from aem_agent.run_folder import RunFolder
from aem_agent.types import Episode

TRAINING = "aem-train"
"""`kind` in the configuration of a training run; an evaluation's has none."""

_STEP = re.compile(r"step-(\d{6,})\.jsonl", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """A file of episode records."""

    path: Path
    label: str = ""
    """When in the training they were played, for people; empty for an evaluation."""


def is_training(folder: RunFolder) -> bool:
    """Whether the folder is a training run's."""
    return folder.config.get("kind") == TRAINING


def sources(folder: RunFolder) -> list[Source]:
    """The files, in order of time.

    Raises:
        RunFolderError: a training run that has recorded no episode.
    """
    if not is_training(folder):
        return [Source(folder.episodes_path)]
    steps = (
        (int(m[1]), path) for path in (folder.path / "episodes").glob("*.jsonl") if (m := _STEP.fullmatch(path.name))
    )
    found = [
        Source(folder.path / "samples-before.jsonl", "before RL"),
        *(Source(path, f"RL step {step}") for step, path in sorted(steps)),
        Source(folder.path / "samples-after.jsonl", "after RL"),
    ]
    found = [source for source in found if source.path.is_file()]
    if not found:
        raise RunFolderError(
            f"{folder.path} is a training run without recorded episodes: evaluations record some when they end, and "
            "--set metrics.episodes_every=N those of RL steps"
        )
    return found


def read(source: Source) -> Iterator[Episode]:
    """The records of a file one by one, as written; none if it is not there yet. Raises `RecordError`."""
    return read_episodes(source.path) if source.path.exists() else iter(())


def place(number: int, episode: Episode) -> tuple[int, str, int]:
    """What orders, and so numbers, the episodes of a run: source, task, attempt."""
    return number, episode.task_id, episode.repeat


def records_in_order(folder: RunFolder) -> list[tuple[Path, int]]:
    """(file, byte) of each episode's record, for `episode_at`, in the order that numbers episodes in the viewer; of
    attempts played anew the newest. Reads all of them, and keeps none. Raises as `sources` and `read`."""
    newest: dict[tuple[int, str, str, int], tuple[tuple[int, str, int], int]] = {}
    found = sources(folder)
    for number, source in enumerate(found):
        for start, episode in located_episodes(source.path) if source.path.exists() else ():
            newest[(number, episode.split, episode.task_id, episode.repeat)] = place(number, episode), start
    return [(found[key[0]].path, start) for key, start in sorted(newest.values(), key=lambda record: record[0])]

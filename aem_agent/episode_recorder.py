"""What is known of an episode while it is played, and the record that it becomes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aem_agent.record_format import MAX_NUMBER
from aem_agent.types import Episode, TaskRef, Turn
from aem_envs.core import InfrastructureError

ERROR_LENGTH = 2000
"""Characters of an error that are recorded."""


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one task; `group` is the task's place in the list given."""

    group: int
    task: TaskRef
    repeat: int


class EpisodeRecorder:
    """What is known of a running episode."""

    __slots__ = (
        "began",
        "error",
        "info",
        "job",
        "observation",
        "reason",
        "seed",
        "start_anchor",
        "terminated",
        "thinking",
        "truncated",
        "turns",
    )

    def __init__(self, job: Job, seed: int) -> None:
        self.job = job
        self.seed = seed
        self.turns: list[Turn] = []
        self.observation = ""
        self.info: dict[str, Any] = {}
        self.began: dict[str, float] = {}
        """Seconds of the reset by phase; recorded with those of the first turn."""
        self.start_anchor = ""
        self.terminated = False
        self.truncated = False
        self.reason: str | None = None
        self.error: Exception | None = None
        self.thinking = False
        """The policy was asked, and not the environment."""

    def begin(self, observation: str, info: dict[str, Any]) -> None:
        """Note what the reset said."""
        self.observation, self.info, self.began = observation, info, kept_seconds(info)
        self.start_anchor = str(info.get("anchor") or "")

    def end(self, terminated: bool, truncated: bool) -> None:
        """Note how the episode ended; raises `InfrastructureError` if the environment says that it broke."""
        self.terminated = terminated
        self.truncated = truncated or not terminated
        if self.truncated:
            # an outer time limit, Gymnasium's or ours, gives no reason
            self.reason = str(self.info.get("truncation_reason") or "max_steps")
            if self.reason.startswith("infra:"):
                raise InfrastructureError(self.reason)

    def fail(self, error: Exception) -> None:
        """Note a failure that is nobody's play: the episode is truncated, neither won nor lost."""
        self.error = error
        self.terminated, self.truncated = False, True
        if self.reason is None:
            self.reason = f"infra:{type(error).__name__}"

    def episode(self, retries: int, seconds: float) -> Episode:
        info, task = self.info, self.job.task
        if self.began and self.turns:
            first = self.turns[0].info
            spent = first.get("seconds", {})
            first["seconds"] = spent | {phase: took + spent.get(phase, 0.0) for phase, took in self.began.items()}
        kept = self.turns[-1].info if self.turns else {}
        return Episode(
            env_id=task.env_id,
            task_id=task.task_id,
            task_type=str(info.get("task_type", "")),
            split=task.split,
            repeat=self.job.repeat,
            seed=self.seed,
            turns=tuple(self.turns),
            final_observation=self.observation,
            terminated=self.terminated,
            truncated=self.truncated,
            truncation_reason=self.reason,
            error=None if self.error is None else error_text(self.error),
            return_=sum(turn.reward for turn in self.turns),
            won=kept.get("won", False),
            score=kept.get("score", 0.0),
            retries=retries,
            seconds=seconds,
            data_hash=str(info.get("data_hash", "")),
            engine=str(info.get("engine", "")),
            start_anchor=self.start_anchor,
        )


def error_text(error: BaseException) -> str:
    """ "ErrorType: message" as it is recorded; an error that cannot even say what it is is named by its type."""
    try:
        said = str(error)
    except Exception as worse:
        said = f"(its message cannot be had: {type(worse).__name__})"
    return f"{type(error).__name__}: {said}"[:ERROR_LENGTH]


def kept_info(info: dict[str, Any]) -> dict[str, Any]:
    """The entries of `info` that a record keeps; the rest can be had again by replaying the actions.

    Raises:
        InfrastructureError: one of them is not what the environment is to give as such.
    """
    get = info.get
    kept = {
        "score": _score(get("score")),
        "won": bool(get("won")),
        "anchor": str(get("anchor", "")),
        "action_error": get("action_error"),
    }
    if details := get("details"):
        kept["details"] = _kept_details(details)
    if get("seconds"):
        kept["seconds"] = kept_seconds(info)
    return kept


def _score(score: Any) -> float:
    try:
        found = float(score or 0.0)
    except (TypeError, ValueError, OverflowError) as error:
        raise InfrastructureError(f"info['score'] is not a number: {error}") from error
    if not abs(found) <= MAX_NUMBER:
        raise InfrastructureError(f"info['score'] is {found}, not between ±{MAX_NUMBER:g}")
    return found


def _kept_details(details: Any) -> dict[str, Any]:
    """As they will be read, and ours alone."""
    if not isinstance(details, Mapping):
        raise InfrastructureError(f"info['details'] is of type {type(details).__name__}, not dict")
    try:
        kept: dict[str, Any] = json.loads(json.dumps(dict(details), default=repr))
    except (TypeError, ValueError, RecursionError) as error:
        raise InfrastructureError(f"info['details'] cannot be recorded: {error}") from error
    return kept


def kept_seconds(info: dict[str, Any]) -> dict[str, float]:
    """Seconds by phase; raises `InfrastructureError` if that is not what the environment gives as such."""
    seconds = info.get("seconds") or {}
    try:
        return {str(phase): float(took) for phase, took in seconds.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InfrastructureError(f"info['seconds'] is not seconds by phase: {error}") from error

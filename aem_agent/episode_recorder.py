"""What is known of an episode while it is played, and the record that it becomes."""

from dataclasses import dataclass
from typing import Any

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

    __slots__ = ("began", "error", "info", "job", "observation", "reason", "seed", "terminated", "truncated", "turns")

    def __init__(self, job: Job, seed: int) -> None:
        self.job = job
        self.seed = seed
        self.turns: list[Turn] = []
        self.observation = ""
        self.info: dict[str, Any] = {}
        self.began: dict[str, float] = {}
        """Seconds of the reset by phase; recorded with those of the first turn."""
        self.terminated = False
        self.truncated = False
        self.reason: str | None = None
        self.error: Exception | None = None

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
            error=None if self.error is None else f"{type(self.error).__name__}: {self.error}"[:ERROR_LENGTH],
            return_=sum(turn.reward for turn in self.turns),
            won=kept.get("won", False),
            score=kept.get("score", 0.0),
            retries=retries,
            seconds=seconds,
            data_hash=str(info.get("data_hash", "")),
            engine=str(info.get("engine", "")),
        )


def kept_info(info: dict[str, Any]) -> dict[str, Any]:
    """The entries of `info` that a record keeps; the rest can be had again by replaying the actions."""
    get = info.get
    kept = {
        "score": float(get("score") or 0.0),
        "won": bool(get("won")),
        "anchor": str(get("anchor", "")),
        "action_error": get("action_error"),
    }
    if details := get("details"):
        kept["details"] = details
    if seconds := get("seconds"):
        kept["seconds"] = dict(seconds)
    return kept

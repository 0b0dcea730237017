"""Held-out evaluation within a run: the same tasks and seeds each time, sampled at a low temperature and greedily."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aem_agent.stats import Interval, clustered_mean, wilson
from aem_agent.summary import data_hash
from aem_agent.types import Episode, RolloutGroup
from trainer.batch import BatchError, first_error
from trainer.metrics import success_by_type


@dataclass(frozen=True)
class Evaluation:
    """Success on held-out tasks."""

    split: str
    temperature: float
    """0 is greedy."""
    episodes: tuple[Episode, ...]
    errors: int
    """Episodes that ended in infrastructure errors; they are neither successes nor failures."""

    @property
    def n(self) -> int:
        return len(self.episodes)

    @property
    def wins(self) -> int:
        return sum(e.won for e in self.episodes)

    @property
    def success(self) -> float:
        """Share of completed episodes that were won."""
        return self.wins / self.n

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval of `success`: every task is tried once."""
        return wilson(self.wins, self.n)

    @property
    def score(self) -> float:
        """Mean score: 1 for a success, a share of it where the environment gives one."""
        return sum(e.score for e in self.episodes) / self.n

    @property
    def score_interval(self) -> Interval:
        """95 % interval of `score`."""
        return clustered_mean([[e.score] for e in self.episodes])

    @property
    def graded(self) -> bool:
        """Some episode scored otherwise than 1 where it was won and 0 where not."""
        return any(e.score != e.won for e in self.episodes)

    def summary(self) -> dict[str, Any]:
        """Plain data for metrics, tables and `summary.json`."""
        turns = [turn for e in self.episodes for turn in e.turns]
        invalid = sum(not (t.format_valid and t.action_valid) for t in turns)
        return {
            "split": self.split,
            "temperature": self.temperature,
            "n": self.n,
            "errors": self.errors,
            "success": self.success,
            **success_by_type(self.episodes),
            "low": self.interval.low,
            "high": self.interval.high,
            "mean_return": sum(e.return_ for e in self.episodes) / self.n,
            "mean_score": self.score,
            "score_low": self.score_interval.low,
            "score_high": self.score_interval.high,
            "graded": self.graded,
            "invalid_rate": invalid / max(1, len(turns)),
            "mean_turns": len(turns) / self.n,
            "data_hash": data_hash(self.episodes),
            "engine": ", ".join(sorted({e.engine for e in self.episodes if e.engine})),
        }


def evaluation_of(groups: Sequence[RolloutGroup], split: str, temperature: float) -> Evaluation:
    """Sum up what was played; raises `BatchError` where nothing was completed, which says nothing of the model."""
    episodes = tuple(e for g in groups for e in g.episodes if e.completed)
    if not episodes:
        raise BatchError(f"the evaluation on {split} completed no episode: {first_error(groups)}")
    return Evaluation(split, temperature, episodes, sum(len(g.errored) for g in groups))


def mean_success(found: Sequence[Evaluation]) -> float:
    """Mean success over temperatures: less noisy than either, to choose weights by."""
    return sum(e.success for e in found) / len(found)

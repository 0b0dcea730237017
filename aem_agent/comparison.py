"""How two evaluations differ, on the tasks that both completed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aem_agent.stats import Difference, paired_bootstrap
from aem_agent.summary import by_task
from aem_agent.types import AgentError, Episode

METRICS = ("success", "score", "return", "steps")
"""What `compare` compares."""


class NothingInCommonError(AgentError):
    """Two runs share no task that both completed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run B against run A on the tasks both completed."""

    tasks: int
    only_a: int
    """Tasks that only A completed; they enter nothing else."""
    only_b: int
    means: dict[str, tuple[float, float]]
    """Metric → (A, B), means over tasks of the task's mean."""
    differences: dict[str, Difference]
    """Metric → B − A."""
    success_by_task_type: dict[str, tuple[int, float, float, Difference]]
    """Task type → (tasks, A, B, B − A)."""
    other_data: int
    """Common tasks whose data hashes differ: the same name for another task."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        data = asdict(self)
        data["differences"] = {metric: _difference(d) for metric, d in self.differences.items()}
        data["success_by_task_type"] = {
            kind: {"tasks": n, "a": a, "b": b, **_difference(d)}
            for kind, (n, a, b, d) in self.success_by_task_type.items()
        }
        return data


def _difference(d: Difference) -> dict[str, Any]:
    return {"difference": d.mean, "interval": list(d.interval), "probability_positive": d.probability_positive}


def _values(attempts: Sequence[Episode]) -> dict[str, float]:
    """A task's mean of each metric."""
    n = len(attempts)
    return {
        "success": sum(e.won for e in attempts) / n,
        "score": sum(e.score for e in attempts) / n,
        "return": sum(e.return_ for e in attempts) / n,
        "steps": sum(len(e.turns) for e in attempts) / n,
    }


def compare(a: Iterable[Episode], b: Iterable[Episode], *, seed: int = 0) -> Comparison:
    """Paired comparison by task, with seeded bootstrap intervals.

    Raises:
        NothingInCommonError: no task was completed in both.
    """
    left, right = (by_task(e for e in side if e.completed) for side in (a, b))
    common = sorted(left.keys() & right.keys())
    if not common:
        raise NothingInCommonError("the two runs have no completed task in common: run both with the same split and -n")
    values_a, values_b = [_values(left[t]) for t in common], [_values(right[t]) for t in common]
    types: dict[str, list[int]] = defaultdict(list)
    for i, task in enumerate(common):
        types[left[task][0].task_type].append(i)

    def difference(metric: str, rows: Iterable[int]) -> tuple[float, float, Difference]:
        va, vb = zip(*((values_a[i][metric], values_b[i][metric]) for i in rows))
        return sum(va) / len(va), sum(vb) / len(vb), paired_bootstrap(va, vb, seed=seed)

    overall = {metric: difference(metric, range(len(common))) for metric in METRICS}
    return Comparison(
        tasks=len(common),
        only_a=len(left) - len(common),
        only_b=len(right) - len(common),
        means={metric: (mean_a, mean_b) for metric, (mean_a, mean_b, _) in overall.items()},
        differences={metric: d for metric, (_, _, d) in overall.items()},
        success_by_task_type={kind: (len(rows), *difference("success", rows)) for kind, rows in sorted(types.items())},
        other_data=sum(left[t][0].data_hash != right[t][0].data_hash for t in common),
    )

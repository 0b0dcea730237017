"""Alarms: what says, over several RL steps, that a run goes wrong, each with its cause and what to do.

What is NaN or infinite waits for no second step: `trainer.metrics.require_finite` ends a run before it touches the
weights, and `ends_at_nan` makes an alarm of that, with cause `nan`.

Everything else is read from the run's records, so there is no state to save: a resumed run raises what it would have
raised. A cause is raised once in a run; its record is what says that it was.

| cause | each of the last `metrics.patience` steps, or so many times it, that have the figure |
|---|---|
| `ratio` | mean probability ratio above `metrics.ratio_limit`, or below its inverse |
| `entropy` | mean token entropy below `metrics.entropy_floor`, and success below `CONVERGED` |
| `kl` | KL to the reference above `KL_LIMIT` nats per token |
| `gradient` | gradient norm above `SPIKE` times the median of the `BEFORE` steps before them |
| `invalid` | share of invalid actions above `INVALID` |
| `nothing` | nothing to learn from, over `NOTHING` times as many steps, and success below `CONVERGED` |
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Self

from aem_agent.files import quoted
from trainer.checkpoints import STAGES, Progress
from trainer.config import MetricsConfig
from trainer.errors import NonFiniteError, TrainerError
from trainer.metrics import MetricsLog, Record

if TYPE_CHECKING:
    from trainer.session import Session

CONVERGED = 0.9
"""Mean success from which a policy that is sure of itself, or has nothing left to learn, is no failure."""
KL_LIMIT = 2.0
SPIKE = 100.0
BEFORE = 20
INVALID = 0.95
NOTHING = 4


@dataclass(frozen=True)
class Alarm:
    """Something that goes wrong."""

    cause: str
    """Its short name, as in the table above."""
    words: str
    """What was seen."""
    advice: str
    """What to do about it."""

    @property
    def sentence(self) -> str:
        """Both, for a person."""
        return f"{self.words}: {self.advice}"

    def record(self) -> dict[str, str]:
        """What `metrics.jsonl` has of it."""
        return asdict(self)


class AlarmError(TrainerError):
    """A run was ended, and saved, because of an alarm (`metrics.alarm=stop`)."""

    @classmethod
    def of(cls, alarms: Sequence[Alarm], folder: Path) -> Self:
        """The error that says why a run ended, and how it may go on."""
        why = "; ".join(alarm.sentence for alarm in alarms)
        return cls(
            f"{why}. The run is saved: `aem-train resume {quoted(folder)}` goes on in spite of it; other settings need "
            "another run"
        )


def raise_alarms(log: MetricsLog, progress: Progress, config: MetricsConfig, say: Callable[[str], None]) -> list[Alarm]:
    """After an RL step: write down the alarms that are new, and say them; returns them."""
    alarms = new_alarms(log.records, config)
    for alarm in alarms:
        log.write("alarm", progress.stage, progress.step, alarm.record())
        say(f"alarm at RL step {progress.step}: {alarm.sentence}")
    return alarms


def new_alarms(records: Sequence[Record], config: MetricsConfig) -> list[Alarm]:
    """What the newest RL step of a run's `records` gives reason to raise, and was not raised before."""
    known = {r["cause"] for r in records if r["kind"] == "alarm"}
    steps = [r for r in records if r["kind"] == "rl"]
    found = (check(steps, config) for cause, check in _CHECKS.items() if cause not in known)
    return [alarm for alarm in found if alarm is not None]


@contextmanager
def ends_at_nan(session: "Session") -> Iterator[None]:
    """Of the step in this block: what it finds NaN or infinite ends the run, as an alarm of cause `nan`.

    Raises:
        NonFiniteError: with the step, and what to do: resuming would do the same again.
    """
    try:
        yield
    except NonFiniteError as error:
        stage, step = session.progress.stage, session.progress.step + 1
        alarm = Alarm("nan", str(error), _other_run(session))
        session.log.write("alarm", stage, step, alarm.record())
        raise NonFiniteError(f"{step_name(stage)} {step}: {alarm.sentence}") from error


def _other_run(session: "Session") -> str:
    """How to train on in spite of it: a resumed run repeats what failed, and its settings cannot be changed."""
    if STAGES[session.progress.stage] != "rl":
        return "begin another run with a lower learning rate (warmstart.lr)"
    start = session.folder.path / "warmstart"
    return (
        "begin another run with a lower learning rate (optimiser.lr) or a smaller optimiser.grad_clip; "
        f"with model.path={start} warmstart.steps=0 warmstart.explore_steps=0 it begins where RL began"
    )


def step_name(stage: int) -> str:
    """What a step of a stage is called."""
    return {"warmstart": "warm start step", "explore": "exploratory step", "rl": "RL step"}[STAGES[stage]]


def _last(steps: Sequence[Record], key: str, count: int) -> list[float] | None:
    """The last `count` values of a figure, over all the steps that have it; None if there are fewer."""
    there = (float(r[key]) for r in reversed(steps) if r.get(key) is not None)
    values = list(islice(there, count))[::-1]
    return values if len(values) == count else None


def _success(steps: Sequence[Record], count: int) -> float:
    """Mean success of the last `count` steps."""
    values = [r.get("success_played", r.get("success")) for r in steps[-count:]]
    return fmean([float(v) for v in values if v is not None] or [0.0])


def _ratio(steps: Sequence[Record], config: MetricsConfig) -> Alarm | None:
    values, limit = _last(steps, "ratio_mean", config.patience), config.ratio_limit
    if values is None or not all(v > limit or v < 1 / limit for v in values):
        return None
    return Alarm(
        "ratio",
        f"the mean probability ratio was above {limit:g} or below 1/{limit:g} in {len(values)} steps "
        f"(last {values[-1]:.3g})",
        "updates leave the policy that sampled far behind; lower optimiser.lr, algorithm.epochs or rollout.staleness, "
        "or raise optimiser.minibatch_responses",
    )


def _entropy(steps: Sequence[Record], config: MetricsConfig) -> Alarm | None:
    values = _last(steps, "token_entropy", config.patience)
    if values is None or not all(v < config.entropy_floor for v in values):
        return None
    success = _success(steps, config.patience)
    if success >= CONVERGED:
        return None
    return Alarm(
        "entropy",
        f"token entropy was below {config.entropy_floor:g} nats in {len(values)} steps, with success {success:.2f}",
        "the policy no longer explores; lower optimiser.lr, raise algorithm.clip_high or algorithm.entropy_bonus, or "
        "go back to an earlier checkpoint",
    )


def _kl(steps: Sequence[Record], config: MetricsConfig) -> Alarm | None:
    values = _last(steps, "kl_reference", config.patience)
    if values is None or not all(v > KL_LIMIT for v in values):
        return None
    return Alarm(
        "kl",
        f"the policy was more than {KL_LIMIT:g} nats per token from its reference in {len(values)} steps "
        f"(last {values[-1]:.3g})",
        "raise algorithm.kl_coefficient, or lower optimiser.lr",
    )


def _gradient(steps: Sequence[Record], config: MetricsConfig) -> Alarm | None:
    values = _last(steps, "grad_norm", config.patience + BEFORE)
    if values is None:
        return None
    usual, newest = median(values[:BEFORE]), values[BEFORE:]
    if not all(v > SPIKE * usual for v in newest):
        return None
    return Alarm(
        "gradient",
        f"gradient norms were more than {SPIKE:g} times those before ({usual:.3g}) in {len(newest)} steps "
        f"(last {newest[-1]:.3g})",
        "lower optimiser.lr or optimiser.grad_clip, or go back to an earlier checkpoint",
    )


def _invalid(steps: Sequence[Record], config: MetricsConfig) -> Alarm | None:
    values = _last(steps, "invalid_rate", config.patience)
    if values is None or not all(v > INVALID for v in values):
        return None
    return Alarm(
        "invalid",
        f"more than {100 * INVALID:g} % of the actions were invalid in {len(values)} steps",
        "compare model.prompt and model.parser with what the sample episodes say, or warm-start the model",
    )


def _nothing(steps: Sequence[Record], config: MetricsConfig) -> Alarm | None:
    count = NOTHING * config.patience
    newest = steps[-count:]
    if len(newest) < count or not all(_teaches_nothing(record) for record in newest):
        return None
    success = _success(steps, count)
    if success >= CONVERGED:
        return None
    return Alarm(
        "nothing",
        f"no group had anything to learn from in {count} steps, with success {success:.2f}",
        "all episodes of a task end alike; take easier tasks, more rollout.group_size, a higher rollout.temperature or "
        "partial rewards, or warm-start the model",
    )


def _teaches_nothing(record: Record) -> bool:
    """No group, no response that took part, or only groups of one outcome and what invalid actions cost."""
    only_penalties = record.get("uniform_groups") == 1 and record.get("positive_share") == 0
    return bool(record.get("skipped")) or only_penalties or record.get("kept_share") == 0


_CHECKS: dict[str, Callable[[Sequence[Record], MetricsConfig], Alarm | None]] = {
    "ratio": _ratio,
    "entropy": _entropy,
    "kl": _kl,
    "gradient": _gradient,
    "invalid": _invalid,
    "nothing": _nothing,
}

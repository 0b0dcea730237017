"""Metrics of a run: one JSON line per record, a clock per phase, and the check that nothing became NaN."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aem_agent.files import open_to_read, quoted
from aem_agent.record_format import MAX_NUMBER
from aem_agent.records import RunFolderError
from aem_agent.run_folder import write_atomically
from aem_agent.types import Episode
from trainer.batch import Batch, Outcomes
from trainer.checkpoints import STAGES
from trainer.errors import MetricError, NonFiniteError
from trainer.tensors import segment_max, segment_min, segment_sum
from trainer.world import World

if TYPE_CHECKING:
    from trainer.writers import Writers

Record = dict[str, Any]


MAX_LINE = 1 << 24
"""Bytes of a record; a longer line is damaged."""
_TEXTS = {
    "evaluation": frozenset(("when", "split", "data_hash", "engine")),
    "alarm": frozenset(("cause", "words", "advice")),
}
_NEEDED = {
    "evaluation": frozenset(("when", "split", "temperature", "success", "low", "high", "n")),
    "alarm": frozenset(("cause", "words", "advice")),
}
"""What readers of a kind of record rely on."""


class MetricsLog:
    """`metrics.jsonl`, flushed per line; `kind` is `warmstart`, `explore`, `rl`, `evaluation`, `alarm` or `phase`."""

    def __init__(self, path: Path, *, written: bool = True) -> None:
        self.path = path
        self.written = written
        """False: records are kept only; another process writes the same ones."""
        self.records: list[Record] = []
        self.writers: Writers | None = None
        """Who shows the same records elsewhere."""

    def rewind(self, stage: int, step: int) -> None:
        """Read the file and drop what is done again: all after `step` of `stage`, and the last evaluation."""
        records = read_records(self.path)
        kept = [r for r in records if (r["stage"], r["step"]) <= (stage, step) and r.get("when") != "after"]
        if self.written:
            write_atomically(self.path, "".join(_line(r) for r in kept).encode())
        self.records = kept
        if self.writers is not None:
            self.writers.rewrite(kept)

    def write(self, kind: str, stage: int, step: int, values: Mapping[str, Any]) -> None:
        """Append one record; tensors become numbers, and null what is not finite, or beyond `MAX_NUMBER`.

        Raises:
            RunFolderError: the disk is full or refuses.
            MetricError: something else than a number is given as a figure.
        """
        try:
            record = {"kind": kind, "stage": stage, "step": step, **{k: _plain(v) for k, v in values.items()}}
            checked_record(record)  # else it could not be read again
        except (ValueError, RuntimeError) as error:  # torch's, of a tensor of several elements
            raise MetricError(f"{kind} record of step {step}: {error}: give numbers, of one element each") from error
        self.records.append(record)
        if not self.written:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise RunFolderError(
                f"cannot write {self.path}: {error.strerror}; the last checkpoint is kept: free space, then "
                f"`aem-train resume {quoted(self.path.parent)}`"
            ) from error
        if self.writers is not None:
            self.writers.write(len(self.records) - 1, record)

    def close(self) -> None:
        """Let those who show records elsewhere end; no line of the file waits for this."""
        if self.writers is not None:
            self.writers.close()

    def of(self, kind: str) -> list[Record]:
        """All records of one kind, in order."""
        return [r for r in self.records if r["kind"] == kind]


def read_records(path: Path) -> list[Record]:
    """The complete lines of a metrics file; a cut-off last line (power loss) is dropped.

    Raises:
        RunFolderError: another line is damaged, or holds what no run writes; it cannot be read.
    """
    if not path.exists():
        return []
    records: list[Record] = []
    damaged: tuple[int, Exception] | None = None
    try:
        with open_to_read(path) as file:
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE), b""), 1):
                if damaged is not None:
                    raise RunFolderError(f"{path} line {damaged[0]} is damaged: {damaged[1]}; remove the line")
                try:
                    records.append(checked_record(json.loads(line.decode())))
                except (ValueError, RecursionError) as error:
                    damaged = number, error  # forgiven if it is the last
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error
    return records


def checked_record(record: Any) -> Record:
    """A record as `MetricsLog.write` writes them: figures, and the texts that its kind has.

    Raises:
        ValueError: it is none.
    """
    if not (isinstance(record, dict) and isinstance(record.get("kind"), str)):
        raise ValueError("it is no record")
    texts = _TEXTS.get(record["kind"], frozenset())
    for name, value in record.items():
        if name == "kind" or (name in texts and isinstance(value, str)):
            continue
        if name in texts or not (value is None or (isinstance(value, int | float) and abs(value) <= MAX_NUMBER)):
            raise ValueError(f"{name} is {str(value)[:40]!r}")
    if lacking := sorted(_NEEDED.get(record["kind"], frozenset()) - {k for k, v in record.items() if v is not None}):
        raise ValueError(f"it has no {', '.join(lacking)}")
    stage, step = record.get("stage"), record.get("step")
    if not (isinstance(stage, int) and stage in range(len(STAGES)) and isinstance(step, int) and 0 <= step < 2**53):
        raise ValueError(f"there is no step {str(step)[:40]} of stage {str(stage)[:40]}")
    return record


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.item()
    return None if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER else value


class Clock:
    """Seconds per phase; phases may nest, the inner one's time is then counted in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """Seconds per phase since the last `take`, as metrics `seconds_<phase>`."""
        seconds, self.seconds = self.seconds, {}
        return {f"seconds_{phase}": value for phase, value in seconds.items()}


def require_finite(values: Mapping[str, Tensor | float], where: str) -> None:
    """Raise `NonFiniteError` naming the first value that is NaN or infinite; `trainer.health.ends_at_nan` adds in which
    step of the run, and what to do."""
    for name, value in values.items():
        number = float(value)
        if not math.isfinite(number):
            raise NonFiniteError(f"{name} became {number} in {where}")


def rollout_metrics(batch: Batch, outcomes: Outcomes, entropies: Tensor, logprobs: Tensor) -> dict[str, Tensor | float]:
    """What the rollouts of one step look like, before any update.

    entropies, logprobs [N] of the sampling policy. Response entropy is estimated by the sum of token entropies along
    the response (chain rule), nats. What environments say of their time is `env_seconds_…`: it lies within the run's
    own `seconds_rollout`, and is no phase beside it.
    """
    n_groups = int(outcomes.group_of_episode.max()) + 1
    of = outcomes.group_of_episode
    high, low = segment_max(outcomes.returns, of, n_groups), segment_min(outcomes.returns, of, n_groups)
    uniform = (high == low)[high >= low]  # a group that lost all its episodes has neither
    spent = {f"env_seconds_{phase}": seconds for phase, seconds in outcomes.seconds.items()}
    return {
        "episodes": float(len(outcomes.returns)),
        "errors": float(outcomes.errors),
        "responses": float(batch.n_responses),
        "response_tokens": float(len(batch.targets)),
        "success": outcomes.won.float().mean(),
        "score_mean": outcomes.scores.mean(),
        "return_mean": outcomes.returns.mean(),
        "truncated_share": (~outcomes.terminated).float().mean(),
        "invalid_rate": outcomes.invalid.float().mean(),
        "turns_mean": batch.n_responses / len(outcomes.returns),
        "response_length": batch.response_lengths.float().mean(),
        "uniform_groups": uniform.float().mean(),
        "token_entropy": entropies.mean(),
        "response_entropy": segment_sum(entropies, batch.span_index, batch.n_responses).mean(),
        "token_surprisal": -logprobs.mean(),
        **spent,
    }


def success_by_type(episodes: Iterable[Episode]) -> dict[str, float]:
    """Share of the completed episodes of each task type that were won, as `success/<type>`; types by name.

    A name per figure, and no table of them, so that every reader of flat records can draw it.
    """
    won: dict[str, list[bool]] = defaultdict(list)
    for episode in episodes:
        if episode.completed and episode.task_type:
            won[episode.task_type].append(episode.won)
    return {f"success/{kind}": sum(won[kind]) / len(won[kind]) for kind in sorted(won)}


def advantage_metrics(advantages: Tensor, kept: Tensor, filtered: Tensor) -> dict[str, Tensor]:
    """Spread of the advantages, and the shares of responses that took part and that the compact filter masked."""
    return {
        "advantage_std": advantages.std(),
        "kept_share": kept.float().mean(),
        "filtered_share": filtered.float().mean(),
    }


def add_metrics(total: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    """Add the metrics of one more micro-batch to those of an optimiser step; of `…_max` the larger is kept."""
    for name, value in more.items():
        if name not in total:
            total[name] = value
        else:
            total[name] = torch.maximum(total[name], value) if name.endswith("_max") else total[name] + value


def metrics_of_all(metrics: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Metrics of one optimiser step over all processes, which have the same names: sums; of `…_max` the largest.
    `parity_error` all know already, and `flops_…` stay those of one device."""
    if world.size == 1:
        return metrics
    largest = {n: world.largest(value) for n, value in metrics.items() if n.endswith("_max")}
    others = {n: v for n, v in metrics.items() if n not in largest and not n.startswith(("parity_", "flops_"))}
    summed = {n: value.clone() for n, value in others.items()}
    world.sum_all(list(summed.values()))
    return metrics | summed | largest


def mean_metrics(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means over optimiser steps of scalars of the same name, over the steps that have it; the largest of `…_max`, and
    the sum of `flops_…`."""

    def combined(name: str) -> Tensor:
        values = torch.stack([part[name].detach().float().cpu() for part in parts if name in part])
        if name.endswith("_max"):
            return values.amax()
        return values.sum() if name.startswith("flops_") else values.mean()

    return {name: combined(name) for name in dict.fromkeys(name for part in parts for name in part)}

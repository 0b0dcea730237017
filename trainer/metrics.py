"""Metrics of a run: one JSON line per record, a clock per phase, and the check that nothing became NaN."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aem_agent.records import RunFolderError
from aem_agent.run_folder import write_atomically
from trainer.batch import Batch, Outcomes
from trainer.errors import NonFiniteError
from trainer.tensors import segment_max, segment_min, segment_sum

Record = dict[str, Any]


class MetricsLog:
    """`metrics.jsonl`, flushed per line; `kind` is `warmstart`, `explore`, `rl`, `evaluation` or `phase`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []

    def rewind(self, stage: int, step: int) -> None:
        """Read the file and drop what is done again: all after `step` of `stage`, and the last evaluation."""
        records = read_records(self.path)
        kept = [r for r in records if (r["stage"], r["step"]) <= (stage, step) and r.get("when") != "after"]
        write_atomically(self.path, "".join(_line(r) for r in kept).encode())
        self.records = kept

    def write(self, kind: str, stage: int, step: int, values: Mapping[str, Any]) -> None:
        """Append one record; tensors become numbers, non-finite numbers null.

        Raises:
            RunFolderError: the disk is full or refuses.
        """
        record = {"kind": kind, "stage": stage, "step": step, **{k: _plain(v) for k, v in values.items()}}
        self.records.append(record)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise RunFolderError(
                f"cannot write {self.path}: {error.strerror}; the last checkpoint is kept: free space, then "
                f"`aem-train resume {self.path.parent}`"
            ) from error

    def of(self, kind: str) -> list[Record]:
        """All records of one kind, in order."""
        return [r for r in self.records if r["kind"] == kind]


def read_records(path: Path) -> list[Record]:
    """The complete lines of a metrics file; a cut-off last line (power loss) is dropped.

    Raises:
        RunFolderError: another line is damaged.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            records.append({**record, "stage": int(record["stage"]), "step": int(record["step"])})
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise RunFolderError(f"{path} line {number} is damaged: {error}; remove the line") from error
    return records


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    """Raise `NonFiniteError` naming the first value that is NaN or infinite."""
    for name, value in values.items():
        number = float(value)
        if not math.isfinite(number):
            raise NonFiniteError(
                f"{name} became {number} at {where}: try a lower learning rate (optimiser.lr), a smaller "
                "optimiser.grad_clip, or resume from the last checkpoint with another seed"
            )


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


def advantage_metrics(advantages: Tensor, kept: Tensor, filtered: Tensor) -> dict[str, Tensor]:
    """Spread of the advantages, and the shares of responses that took part and that the compact filter masked."""
    return {
        "advantage_std": advantages.std(),
        "kept_share": kept.float().mean(),
        "filtered_share": filtered.float().mean(),
    }


def mean_metrics(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means over optimiser steps of scalars of the same name, over the steps that have it."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {n: torch.stack([part[n].detach().float().cpu() for part in parts if n in part]).mean() for n in names}

"""The processes that train together: who this one is, and what they tell each other.

All of them run the same `trainer.loop.train`, on the same batch, and take each decision alike. Alone (`ALONE`) every
call here does nothing or returns what it is given, and torch.distributed is never touched.

Who there is stands in the environment, as torchrun puts it (RANK, WORLD_SIZE, …); `trainer.launch` does likewise.
"""

import atexit
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from aem_envs.cli_common import describe, is_known_error
from trainer.config import ConfigError, TrainConfig
from trainer.errors import TrainerError
from trainer.launch import LAUNCHER, LISTENING, end_with_parent
from trainer.started import Started, started
from trainer.stopping import StoppedRun

T = TypeVar("T")

TIMEOUT = timedelta(hours=8)
"""For the slowest phase that others wait for: an evaluation, the demonstrations of a warm start."""

PATIENCE = 5.0
"""Seconds until a process says that it waits for others to come."""

BUCKET = 1 << 24
"""Numbers that are summed in one message."""

_LOST = re.compile(r"connection (was )?(closed|reset|refused)|broken pipe|gloo|nccl|tcpstore", re.IGNORECASE)
_OURS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", LAUNCHER, LISTENING)


class ProcessError(TrainerError):
    """Another process of this run failed; the message is its."""


@dataclass(frozen=True)
class World:
    """This process among `size`, and among those on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the run folder and talks to people."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Σ over the processes, in place; the same bits on each."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_all(self, tensors: list[Tensor]) -> None:
        """Σ over the processes of each tensor, in place; many small ones travel together."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        for number, tensor in enumerate(tensors):
            bucket.append(tensor)
            after = tensors[number + 1] if number + 1 < len(tensors) else None
            unlike = after is None or (after.dtype, after.device) != (tensor.dtype, tensor.device)
            if unlike or sum(t.numel() for t in bucket) > BUCKET:
                flat = self.sum(torch.cat([t.reshape(-1) for t in bucket]))
                for t, total in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                    t.copy_(total.view_as(t))
                bucket = []

    def largest(self, value: Tensor) -> Tensor:
        """The largest of all processes' scalars; NaN wins."""
        if self.size == 1:
            return value
        values = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(values, value.contiguous())
        return torch.stack(values).max()

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on any process."""
        return any(self.gather(flag))

    def gather(self, thing: T) -> list[T]:
        """Every process's `thing`, in their order. Pickled: it travels between processes of one run only."""
        if self.size == 1:
            return [thing]
        things: list[Any] = [None] * self.size
        dist.all_gather_object(things, thing)
        return cast(list[T], things)

    def together(self, function: Callable[[], T]) -> T:
        """`function()`, which every process calls for itself; if it raises on any, all of them raise. See `each`."""
        if self.size == 1:
            return function()
        mine = _Outcome.of(function, self.rank)
        self._agreed(self.gather(_Outcome(None, mine.failure, mine.stopped)), mine)
        return cast(T, mine.value)

    def in_turn(self, function: Callable[[], T]) -> T:
        """As `together`, for what takes much of a machine's memory for a while: its processes do it one by one. What is
        called must not wait for other processes."""
        value: T | None = None
        for turn in range(1 + max(self.gather(self.local_rank))):
            done = self.together(function if turn == self.local_rank else _nothing)
            value = cast(T, done) if turn == self.local_rank else value
        return cast(T, value)

    def each(self, function: Callable[[], T]) -> list[T]:
        """What `function()` returns on every process; if it raises on any, all of them raise.

        Raises:
            ProcessError: it failed on another process.
            StoppedRun: another process was asked to stop.
        """
        if self.size == 1:
            return [function()]
        mine = _Outcome.of(function, self.rank)
        return [outcome.value for outcome in self._agreed(self.gather(mine), mine)]

    def only_first(self, function: Callable[[], T]) -> T:
        """`function()` is called by the first process; all return its result, or raise. See `each`."""
        if self.size == 1:
            return function()
        mine = _Outcome.of(function, self.rank) if self.first else _Outcome()
        told: list[Any] = [mine]
        dist.broadcast_object_list(told, src=0)
        return cast(T, self._agreed(told, mine)[0].value)

    def _agreed(self, told: "list[_Outcome]", mine: "_Outcome") -> "list[_Outcome]":
        if any(outcome.stopped for outcome in told):
            raise StoppedRun
        failures = [outcome.failure for outcome in told if outcome.failure is not None]
        if failures and self.first and mine.error is not None:
            raise mine.error
        if failures:
            raise ProcessError(failures[0]) from mine.error
        return told


ALONE = World()


def _nothing() -> None:
    """What a process does whose turn it is not."""


@dataclass
class _Outcome:
    value: Any = None
    failure: str | None = None
    stopped: bool = False
    error: Exception | None = None
    """Where it was raised; it does not travel: not every exception can be pickled."""

    @classmethod
    def of(cls, function: Callable[[], Any], rank: int) -> "_Outcome":
        try:
            return cls(function())
        except StoppedRun:
            return cls(stopped=True)
        except Exception as error:
            return cls(failure=f"process {rank}: {error or type(error).__name__}", error=error)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"error": None}


@contextmanager
def opened(device: str, *, group: bool) -> Iterator[World]:
    """Join the processes that the environment names; alone without any, and then only with `group` (sharding needs one)
    a process group is made.

    Raises:
        ProcessError: another process ended while this one waited for it, or never came.
        ConfigError: as `started`.
    """
    us = started()
    size = us.size
    if size == 1 and not group:
        yield ALONE
        return
    end_with_parent()
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    with _waiting(us):
        dist.init_process_group(backend, store=_store(us), rank=us.rank, world_size=size, timeout=TIMEOUT)
    for name in [*_OURS, *(name for name in os.environ if name.startswith("TORCHELASTIC_"))]:
        os.environ.pop(name, None)  # engines and environments that are started from here are not of this group
    over = False
    try:
        yield World(us.rank, size, us.local_rank)
        over = True
    except RuntimeError as error:
        if size > 1 and not isinstance(error, NotImplementedError) and _LOST.search(str(error)):
            first = str(error).strip().splitlines()[0]
            raise ProcessError(
                f"another process of this run ended, and says why, or it cannot be reached ({first}); resume the run"
            ) from error
        raise
    finally:
        if over or backend == "gloo":  # NCCL's waits for the others, who may never come after an error
            dist.destroy_process_group()


@contextmanager
def _waiting(us: Started) -> Iterator[None]:
    """Say whom this process waits for, where they are not there soon: the variables may be another job's."""
    others = f"{us.size - 1} other process{'' if us.size == 2 else 'es'} at {us.address} (WORLD_SIZE, MASTER_ADDR)"
    said = threading.Timer(PATIENCE, lambda: print(f"waiting for {others}", file=sys.stderr, flush=True))
    said.daemon = True
    if us.size > 1 and us.local_rank == 0:
        said.start()
    try:
        yield
    except RuntimeError as error:  # torch's of a time limit, and of an address that is taken
        if us.size == 1:
            raise
        first = str(error).strip().splitlines()[0]
        raise ProcessError(f"found no {others}: {first}; if nothing else was started, unset WORLD_SIZE") from error
    finally:
        said.cancel()


def _store(us: Started) -> Any:
    """Where processes find one another: a socket of `trainer.launch`, torchrun's address, or just this process."""
    size = us.size
    if size == 1:
        return dist.HashStore()  # type: ignore[attr-defined]
    listening = os.environ.get(LISTENING)
    if listening is not None:
        own: dict[str, Any] = {"is_master": True, "master_listen_fd": int(listening)}
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.TCPStore(host, port, size, **own)  # type: ignore[attr-defined]
    return next(iter(dist.rendezvous("env://", us.rank, size)))[0]  # type: ignore[attr-defined]


def place(config: TrainConfig, world: World) -> TrainConfig:
    """The configuration as it holds for this process: how many there are is decided by who started them.

    Raises:
        ConfigError: settings that do not go together with several processes.
    """
    return replace(config, scale=replace(config.scale, processes=world.size))


def choose_device(config: TrainConfig) -> None:
    """Before CUDA is first used: leave each of several processes on a machine one device, which it calls `cuda`.

    With `scale.rollouts=first` the first process sees the others behind its own, for an engine of several.

    Raises:
        ConfigError: the recipe names one device for all, or the machine has fewer than processes.
    """
    if (us := started()).size == 1 or not config.device.startswith("cuda"):
        return
    if config.device != "cuda":
        raise ConfigError(f"device={config.device} is one device, for several processes: set device=cuda")
    local, count = us.local_rank, us.local_size
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    if len(devices) == 1 < count and named:  # whoever started the processes gave each its own
        return
    if local >= len(devices):
        raise ConfigError(f"{count} processes on a machine with {len(devices)} GPUs: lower scale.processes")
    shown = devices[local:] + devices[:local] if config.scale.rollouts == "first" and local == 0 else [devices[local]]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(shown)


def leave(code: int) -> NoReturn:
    """End one of several processes that did not come to the end together, without taking the interpreter down: threads
    of torch.distributed that still wait for a process that is gone may abort then, and that would be the exit code."""
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def say_failure(rank: int, error: Exception) -> int:
    """What one of several processes says before it ends, unless it failed elsewhere and the first says it. Returns the
    exit code."""
    if rank == 0 or not isinstance(error, ProcessError):
        known = is_known_error(error) or isinstance(error, ImportError)
        if not known or os.environ.get("AEM_TRACEBACK"):
            traceback.print_exception(error)
        print(f"error: {f'process {rank}: ' if rank else ''}{describe(error)}", file=sys.stderr)
    return 2

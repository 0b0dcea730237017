"""What the rollout manager asks of a pool of environments, and what a pool checks of every environment's answers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym

from aem_agent.record_format import MAX_NUMBER
from aem_agent.types import AgentError, EpisodePolicy, Policy, TaskRef
from aem_envs.core import InfrastructureError

MakeEnv = Callable[[], gym.Env[str, str]]

Step = tuple[str, float, bool, bool, dict[str, Any]]
"""observation, native reward, terminated, truncated, info"""


class PoolError(AgentError):
    """A pool that cannot be had as asked: a package is missing, a limit cannot be kept, or what was to be sent to a
    worker cannot be pickled."""


class EnvTimeoutError(InfrastructureError):
    """An environment took longer than a limit allows: its worker is replaced and the episode retried."""


class WorkerLostError(InfrastructureError):
    """The worker process that an environment lived in died, or was replaced.

    `culprit` is true for the episode whose call it was busy with, or that had the worker to itself; the others were
    only neighbours, and their retries are not counted against them (up to a bound).
    """

    def __init__(self, message: str, *, culprit: bool = False) -> None:
        super().__init__(message)
        self.culprit = culprit


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What an environment may use before its worker is replaced. None: no limit.

    Environments stepped inside this process cannot be interrupted: for them limits hold only where they are `blocking`
    and therefore run in threads.
    """

    start: float | None = 120.0
    """Seconds until a worker is up and has made its first environment."""
    step: float | None = None
    """Seconds of one `reset` or `step`, or of one `act` of a policy that lives with its environment. A call that waits
    for its turn in a worker is not counted."""
    episode: float | None = None
    """Seconds that an episode may take from its reset on, waiting for the policy included."""
    memory: int | None = None
    """Bytes of resident memory of one worker process and its children."""


class EnvSession(Protocol):
    """One environment, lent to one episode at a time."""

    async def reset(self, task: TaskRef, seed: int) -> tuple[str, dict[str, Any]]: ...

    async def step(self, action: str) -> Step:
        """Raises whatever the environment raises (of other processes, errors that can be pickled come back as they
        are, others as `InfrastructureError`), and `InfrastructureError` if it answers with wrong types."""
        ...

    def start(self, policy: Policy, task: TaskRef, seed: int) -> EpisodePolicy:
        """`policy.start(env, task, seed)` where the environment is.

        A policy that reads the environment (`needs_env` true, as experts and the random policy) runs in the
        environment's process, and must be picklable for that (it is sent as it was at its first start); any other runs
        here and gets None for it. What `policy.start` raises there comes with the first `act`.
        """
        ...


class EnvPool(Protocol):
    """Lends environments."""

    async def acquire(self, task: TaskRef, *, alone: bool = False) -> EnvSession:
        """An environment that can play `task`; waits where a worker has still to start.

        With `alone` it gets a worker that holds no other environment and ends with the episode, so that no neighbour
        can break it, nor it any neighbour; it may have to wait for one. Pools inside this process ignore that.

        Raises what making the environment raises, or `WorkerLostError` and `EnvTimeoutError` of a worker that did not
        start; where the environment is made later, `reset` raises it. `PoolError` when not one worker has started in
        several attempts.
        """
        ...

    async def release(self, session: EnvSession, *, broken: bool) -> None:
        """Take an environment back; a broken one is closed and replaced when next needed. Called also for an episode
        that was cancelled in the middle of a call: such a session counts as broken."""
        ...

    async def aclose(self) -> None:
        """Close all environments, and end every process that was started for them."""
        ...


def needs_env(policy: Policy) -> bool:
    """Whether a policy reads the environment itself; policies of others that do not say are taken not to."""
    return bool(getattr(policy, "needs_env", False))


def is_blocking(env: gym.Env[str, str]) -> bool:
    """Whether an environment waits for others, for seconds, so that its calls are made in threads."""
    return bool(getattr(getattr(env.unwrapped, "capabilities", None), "blocking", False))


def checked_step(observation: str, reward: Any, terminated: bool, truncated: bool, info: dict[str, Any]) -> Step:
    """What an environment's `step` returned, if it is of the right types; raises `InfrastructureError`."""
    check_text(observation, info)
    try:
        reward = float(reward)
    except (TypeError, ValueError, OverflowError):
        reward = math.nan
    if not abs(reward) <= MAX_NUMBER:
        raise InfrastructureError(f"the environment returned a reward that is not a number between ±{MAX_NUMBER:g}")
    return observation, reward, bool(terminated), bool(truncated), info


def check_text(observation: Any, info: Any) -> None:
    """Raise `InfrastructureError` unless observation and info are a text and a dict."""
    if not isinstance(observation, str) or not isinstance(info, dict):
        kinds = f"{type(observation).__name__} and {type(info).__name__}"
        raise InfrastructureError(
            f"the environment returned {kinds} as observation and info; they must be str and dict"
        )

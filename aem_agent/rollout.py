"""The rollout manager: plays episodes concurrently, each at its own pace, and returns them in a fixed order.

One coroutine per slot plays episode after episode. It suspends only where a policy waits for its engine or a pool for
an environment, so requests of all active episodes reach the engine together and a slow one delays no other.
"""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import gymnasium as gym

from aem_agent.episode_recorder import EpisodeRecorder, Job, kept_info
from aem_agent.pools import EnvPool, EnvSession, InProcessPool
from aem_agent.seeds import episode_seed
from aem_agent.types import (
    AgentError,
    ContextOverflowError,
    Episode,
    Policy,
    RolloutGroup,
    RolloutInterruptedError,
    TaskRef,
    TrainingNeedsTokensError,
    Turn,
)
from aem_envs.core import BadOptionError
from aem_envs.plugins import UnknownPluginError
from envs_data.errors import DataError

USAGE_ERRORS = (BadOptionError, UnknownPluginError)
"""What was asked for cannot be had. Before the first turn of a run's first episodes, they end the run."""
FINAL_ERRORS = (*USAGE_ERRORS, ContextOverflowError, DataError)
"""Errors that the same seed would only repeat, as damaged data do: such an episode is not retried."""

OnEpisode = Callable[[Episode], None]


class RolloutManager:
    """Plays tasks with one policy.

    Args:
        make_env: makes one environment, or an `EnvPool` that lends them.
        policy: shared by all episodes.
        concurrency: episodes in flight at once.
        retries: further attempts, with the same seed, after an infrastructure error.
        seed: run seed; an episode's seed depends on it, the task id and the repeat only.
        on_episode: called as each episode ends, in order of ending (records, progress). What it raises ends the run.
        max_turns: truncates episodes of environments that have no limit of their own.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[str, str]] | EnvPool,
        policy: Policy,
        *,
        concurrency: int = 16,
        retries: int = 2,
        seed: int = 0,
        on_episode: OnEpisode | None = None,
        max_turns: int | None = None,
    ) -> None:
        if concurrency < 1 or retries < 0:
            raise AgentError(f"concurrency {concurrency} must be at least 1 and retries {retries} at least 0")
        self.pool: EnvPool = InProcessPool(make_env) if callable(make_env) else make_env
        self.policy = policy
        self.concurrency = concurrency
        self.retries = retries
        self.seed = seed
        self.on_episode = on_episode
        self.max_turns = max_turns
        self._stopping = False
        self._completed = 0
        """Episodes of this run that ended without an error."""

    async def run(
        self,
        tasks: Sequence[TaskRef],
        repeats: int = 1,
        *,
        seed: int | None = None,
        skip: Collection[tuple[str, int]] = (),
        handle_signals: bool = False,
        on_interrupt: Callable[[], None] | None = None,
    ) -> list[RolloutGroup]:
        """Play every task `repeats` times; one group per entry of `tasks`, in their order.

        A task listed twice gets further repeats, never the same episode twice. `skip` holds (task id, repeat) pairs
        that exist already. With `handle_signals`, Ctrl-C finishes the episodes in flight (after a call of
        `on_interrupt`), a second one drops them.

        Raises:
            RolloutInterruptedError: after `stop()` or Ctrl-C; holds the completed groups.
            BadOptionError, UnknownPluginError: of the environment or the policy before their first turn, while no
                episode was completed: every other one would repeat it.
        """
        jobs = list(_jobs(tasks, repeats, skip))
        results: list[Episode | None] = [None] * len(jobs)
        queue = iter(enumerate(jobs))
        run_seed = self.seed if seed is None else seed
        self._stopping, self._completed = False, 0
        slots = min(self.concurrency, len(jobs))
        workers = [asyncio.ensure_future(self._work(queue, results, run_seed)) for _ in range(slots)]
        try:
            with self._signals(workers, on_interrupt) if handle_signals else nullcontext():
                await _all_or_first_error(workers)
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is None or this.cancelling():  # cancelled from outside, not by a second Ctrl-C
                raise
        groups = _grouped(tasks, jobs, results)
        if any(result is None for result in results):
            raise RolloutInterruptedError(groups)
        return groups

    async def collect(self, tasks: Sequence[TaskRef], repeats: int, *, seed: int) -> list[RolloutGroup]:
        """`run` for training: give every step another `seed`.

        Raises:
            TrainingNeedsTokensError: the policy's responses carry no token ids.
        """
        if not self.policy.trainable:
            raise TrainingNeedsTokensError(
                f"policy {self.policy.name!r} does not record the tokens it sampled; train with a token engine"
            )
        return await self.run(tasks, repeats, seed=seed)

    def stop(self) -> None:
        """Start no further episode; those in flight are finished."""
        self._stopping = True

    async def aclose(self) -> None:
        """Close the environments. The policy belongs to the caller."""
        await self.pool.aclose()

    async def _work(self, queue: Iterator[tuple[int, Job]], results: list[Episode | None], seed: int) -> None:
        for index, job in queue:
            episode = await self._play(job, episode_seed(seed, job.task.task_id, job.repeat))
            results[index] = episode
            self._completed += episode.completed
            if self.on_episode is not None:
                self.on_episode(episode)
            await asyncio.sleep(0)  # a policy that never waits must still let signals and its neighbours in
            if self._stopping:
                return

    async def _play(self, job: Job, seed: int) -> Episode:
        """One episode with its retries; of what the environment, the policy or the engine raises, only wrong use that
        shows at once goes on to the caller.
        """
        started = time.perf_counter()
        attempt = 0
        while True:
            recorder = EpisodeRecorder(job, seed)
            session = await self.pool.acquire(job.task)
            broken = True
            try:
                await self._attempt(recorder, session)
                broken = False
            except Exception as error:
                if isinstance(error, USAGE_ERRORS) and not recorder.turns and not self._completed:
                    raise
                recorder.fail(error)
            finally:
                await self.pool.release(session, broken=broken)
            if recorder.error is None or attempt == self.retries or isinstance(recorder.error, FINAL_ERRORS):
                return recorder.episode(attempt, time.perf_counter() - started)
            attempt += 1

    async def _attempt(self, recorder: "EpisodeRecorder", session: EnvSession) -> None:
        task = recorder.job.task
        observation, info = await session.reset(task, recorder.seed)
        agent = self.policy.start(session.env, task, recorder.seed)
        recorder.observation, recorder.info, recorder.began = observation, info, info.get("seconds") or {}
        act, step, turns = agent.act, session.step, recorder.turns
        limit = self.max_turns or 0
        while True:
            said = await act(observation, info)
            seen = observation
            observation, reward, terminated, truncated, info = await step(said.action)
            turns.append(
                Turn(
                    seen,
                    said.response,
                    said.action,
                    said.prompt_token_ids,
                    said.format_valid,
                    said.format_error,
                    info.get("action_valid") is not False,
                    reward,
                    kept_info(info),
                    said.dropped_turns,
                )
            )
            recorder.observation, recorder.info = observation, info
            if terminated or truncated or len(turns) == limit:
                recorder.end(terminated, truncated)
                return

    @contextmanager
    def _signals(
        self, workers: "Sequence[asyncio.Future[None]]", on_interrupt: Callable[[], None] | None
    ) -> Iterator[None]:
        """First SIGINT drains, second cancels. Only the main thread can receive signals; elsewhere this does
        nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt() -> None:
            if self._stopping:
                for worker in workers:
                    worker.cancel()
            elif on_interrupt is not None:
                on_interrupt()
            self.stop()

        loop = asyncio.get_running_loop()
        previous = signal.getsignal(signal.SIGINT)
        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, previous)


def _jobs(tasks: Sequence[TaskRef], repeats: int, skip: Collection[tuple[str, int]]) -> Iterator[Job]:
    listed: Counter[TaskRef] = Counter()
    for group, task in enumerate(tasks):
        first = listed[task] * repeats
        listed[task] += 1
        for repeat in range(first, first + repeats):
            if (task.task_id, repeat) not in skip:
                yield Job(group, task, repeat)


def _grouped(tasks: Sequence[TaskRef], jobs: Sequence[Job], results: Sequence[Episode | None]) -> list[RolloutGroup]:
    played: list[list[Episode]] = [[] for _ in tasks]
    for job, episode in zip(jobs, results):
        if episode is not None:
            played[job.group].append(episode)
    return [
        RolloutGroup(task, tuple(e for e in group if e.completed), tuple(e for e in group if not e.completed))
        for task, group in zip(tasks, played)
    ]


async def _all_or_first_error(workers: "Sequence[asyncio.Future[None]]") -> None:
    """Wait for all; if one fails, or the waiter is cancelled, cancel the others. No task outlives this call."""
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

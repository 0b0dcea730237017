"""Plays one episode: attempts, what is retried, and what becomes an errored episode."""

import asyncio
import time
from typing import Any

from aem_agent.episode_recorder import EpisodeRecorder, Job, kept_info
from aem_agent.pools import EnvPool, EnvSession
from aem_agent.pools.base import PoolError, WorkerLostError
from aem_agent.types import ContextOverflowError, EngineError, Episode, Policy, Turn
from aem_envs.core import BadOptionError, InfrastructureError
from aem_envs.plugins import UnknownPluginError
from envs_data.errors import DataError

USAGE_ERRORS = (BadOptionError, UnknownPluginError, PoolError)
"""What was asked for cannot be had. Before the first turn of a run's first episodes, they end the run."""
FINAL_ERRORS = (*USAGE_ERRORS, ContextOverflowError, DataError)
"""Errors that the same seed would only repeat, as damaged data do: such an episode is not retried."""
BYSTANDER_RETRIES = 10
"""Attempts that an episode may lose with a worker that another episode broke before they count as its own."""
BYSTANDER_LOSSES = 2
"""Attempts lost so after which an episode is played in a worker of its own, as one that broke its worker is at once."""


class AnswerTimeoutError(EngineError):
    """The policy gave no answer within the limit."""


class Player:
    """Plays episodes of one policy in the environments of one pool.

    Args:
        retries: further attempts, with the same seed, after an infrastructure error.
        max_turns: truncates episodes of environments that have no limit of their own.
        answer_limit: seconds that the policy may take for one answer; None: engines have limits of their own.
    """

    def __init__(
        self, pool: EnvPool, policy: Policy, *, retries: int, max_turns: int | None, answer_limit: float | None
    ) -> None:
        self.pool = pool
        self.policy = policy
        self.retries = retries
        self.max_turns = max_turns or 0
        self.answer_limit = answer_limit
        self.completed = 0
        """Episodes that ended without an error."""
        self.lent = False
        """An environment was had at least once."""
        self.dropped = False
        """Episodes in flight end at their next turn."""

    async def play(self, job: Job, seed: int) -> Episode:
        """One episode with its retries; of what the environment, the policy or the engine raises, only wrong use that
        shows at once, and that there is no environment at all, goes on to the caller.
        """
        started = time.perf_counter()
        attempt = lost = 0
        alone = False
        while True:
            recorder = EpisodeRecorder(job, seed)
            failure = await self._failure(recorder, alone)
            self.completed += failure is None
            if isinstance(failure, WorkerLostError) and not failure.culprit and lost < BYSTANDER_RETRIES:
                lost += 1
                alone = alone or lost >= BYSTANDER_LOSSES
            elif failure is None or attempt == self.retries or isinstance(failure, FINAL_ERRORS):
                if failure is not None and not (self.lent or isinstance(failure, InfrastructureError)):
                    raise failure  # not one environment could be made: every other episode would only repeat it
                return recorder.episode(attempt + lost, time.perf_counter() - started)
            else:
                attempt += 1
                alone = alone or isinstance(failure, WorkerLostError)

    async def _failure(self, recorder: EpisodeRecorder, alone: bool) -> Exception | None:
        """One attempt; what it failed of, which the recorder notes."""
        try:
            await self._attempt(recorder, alone)
        except SystemExit as error:  # third parties' code; it would end every other episode too
            recorder.fail(InfrastructureError(f"SystemExit: {error}"))
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if self.dropped or this is None or this.cancelling():
                raise
            recorder.fail(
                InfrastructureError("a call was cancelled, and not by us: the engine or the environment closed")
            )
        except Exception as error:
            if isinstance(error, USAGE_ERRORS) and not (recorder.turns or self.completed):
                raise
            recorder.fail(error)
        return recorder.error

    async def _attempt(self, recorder: EpisodeRecorder, alone: bool) -> None:
        task = recorder.job.task
        session = await (self.pool.acquire(task, alone=True) if alone else self.pool.acquire(task))
        self.lent = True
        broken = True
        try:
            await self._turns(recorder, session)
            broken = False
        except asyncio.CancelledError:
            broken = not recorder.thinking  # in the middle of a call, else only of an answer
            raise
        finally:
            await self.pool.release(session, broken=broken)

    async def _turns(self, recorder: EpisodeRecorder, session: EnvSession) -> None:
        task = recorder.job.task
        observation, info = await session.reset(task, recorder.seed)
        agent = session.start(self.policy, task, recorder.seed)
        recorder.begin(observation, info)
        act, step, turns, limit = agent.act, session.step, recorder.turns, self.max_turns
        if self.answer_limit is not None:
            act = _limited(act, self.answer_limit)
        while True:
            recorder.thinking = True
            said = await act(observation, info)
            recorder.thinking = False
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
            if self.dropped:
                raise asyncio.CancelledError


def _limited(act: Any, seconds: float) -> Any:
    async def limited(observation: str, info: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await act(observation, info)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise AnswerTimeoutError(
                f"no answer within {seconds:g} s: the engine is stuck or overloaded; raise the limit or lower the "
                "concurrency"
            ) from error

    return limited

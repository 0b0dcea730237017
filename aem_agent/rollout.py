"""The rollout manager: plays episodes concurrently, each at its own pace, and returns them in a fixed order.

One coroutine per slot plays episode after episode. It suspends only where a policy waits for its engine or a pool for
an environment, so requests of all active episodes reach the engine together and a slow one delays no other.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from aem_agent.boards import Board, ListBoard, WantedBoard
from aem_agent.collection import Collected, Wanted
from aem_agent.player import FINAL_ERRORS, USAGE_ERRORS, Player
from aem_agent.pools import EnvPool, InProcessPool, MakeEnv
from aem_agent.seeds import episode_seed
from aem_agent.types import (
    AgentError,
    Episode,
    Policy,
    RolloutGroup,
    RolloutInterruptedError,
    TaskRef,
    TrainingNeedsTokensError,
)

__all__ = ["FINAL_ERRORS", "USAGE_ERRORS", "OnEpisode", "RolloutManager"]

OnEpisode = Callable[[Episode], None]


class RolloutManager:
    """Plays tasks with one policy.

    Args:
        make_env: makes one environment, or an `EnvPool` that lends them.
        policy: shared by all episodes.
        concurrency: episodes in flight at once, over all calls that run at the same time.
        retries: further attempts, with the same seed, after an infrastructure error.
        seed: run seed; an episode's seed depends on it, the task id and the repeat only.
        on_episode: called as each episode ends, in order of ending (records, progress). What it raises ends the run.
        max_turns: truncates episodes of environments that have no limit of their own.
        answer_limit: seconds that the policy may take for one answer; None: engines have limits of their own.
    """

    def __init__(
        self,
        make_env: MakeEnv | EnvPool,
        policy: Policy,
        *,
        concurrency: int = 16,
        retries: int = 2,
        seed: int = 0,
        on_episode: OnEpisode | None = None,
        max_turns: int | None = None,
        answer_limit: float | None = None,
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
        self.answer_limit = answer_limit
        self._slots: asyncio.Semaphore | None = None
        self._boards: list[Board] = []
        """Of the calls in progress, which share the slots."""

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
        board = ListBoard(tasks, repeats, skip)
        await self._play(board, len(board), self.seed if seed is None else seed, handle_signals, on_interrupt)
        groups = board.groups()
        if not board.complete:
            raise RolloutInterruptedError(groups)
        return groups

    async def collect(
        self, tasks: Iterable[TaskRef], repeats: int, *, seed: int, wanted: Wanted | None = None
    ) -> Collected:
        """Play for training; give every step another `seed`.

        With `wanted`, `tasks` may be endless: groups are begun as they are needed. Without, all of them are played.
        Episodes that ended in an error lie apart in their groups; a group may so be smaller, or empty.

        Raises:
            TrainingNeedsTokensError: the policy's responses carry no token ids.
            RolloutInterruptedError: after `stop()`.
        """
        if not self.policy.trainable:
            raise TrainingNeedsTokensError(
                f"policy {self.policy.name!r} does not record the tokens it sampled; train with a token engine"
            )
        if wanted is None:
            listed = list(tasks)
            return Collected(tuple(await self.run(listed, repeats, seed=seed)), tasks=len(listed))
        if wanted.groups < 1 or wanted.spare < 0 or repeats < 1:
            raise AgentError(f"groups {wanted.groups} and repeats {repeats} must be at least 1, spare {wanted.spare} 0")
        board = WantedBoard(tasks, repeats, wanted)
        await self._play(board, (wanted.groups + wanted.spare) * repeats, seed)
        collected = board.collected()
        if not board.complete:
            raise RolloutInterruptedError(collected.groups)
        return collected

    def stop(self) -> None:
        """Start no further episode; those in flight are finished."""
        for board in self._boards:
            board.stop()

    async def aclose(self) -> None:
        """Close the environments. The policy belongs to the caller."""
        await self.pool.aclose()

    async def _play(
        self,
        board: Board,
        most: int,
        seed: int,
        handle_signals: bool = False,
        on_interrupt: Callable[[], None] | None = None,
    ) -> None:
        """Play what a board asks for, with as many coroutines as there are slots, or episodes."""
        if self._slots is None or not self._boards:  # not made in the constructor: it belongs to one event loop
            self._slots = asyncio.Semaphore(self.concurrency)
        self._boards.append(board)
        player = Player(
            self.pool, self.policy, retries=self.retries, max_turns=self.max_turns, answer_limit=self.answer_limit
        )
        count = min(self.concurrency, most)
        workers = [asyncio.ensure_future(self._work(board, player, seed, self._slots)) for _ in range(count)]
        try:
            with self._signals(board, player, workers, on_interrupt) if handle_signals else nullcontext():
                await _until_settled(workers, board)
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is None or this.cancelling():  # cancelled from outside, not by a second Ctrl-C
                raise
        finally:
            self._boards.remove(board)

    async def _work(self, board: Board, player: Player, seed: int, slots: asyncio.Semaphore) -> None:
        while (job := await board.take()) is not None:
            async with slots:
                if board.stopped:  # while it waited for a slot
                    return
                episode = await player.play(job, episode_seed(seed, job.task.task_id, job.repeat))
            board.put(job, episode)
            if self.on_episode is not None:
                self.on_episode(episode)
            await asyncio.sleep(0)  # a policy that never waits must still let signals and its neighbours in

    @contextmanager
    def _signals(
        self,
        board: Board,
        player: Player,
        workers: "Sequence[asyncio.Future[None]]",
        on_interrupt: Callable[[], None] | None,
    ) -> Iterator[None]:
        """First SIGINT drains, second drops. Only the main thread can receive signals; elsewhere this does nothing.

        A plain handler, not the loop's: episodes that never suspend would keep the loop from calling that.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def drop() -> None:
            for worker in workers:
                worker.cancel()

        def interrupt(number: int, frame: Any) -> None:
            if board.stopped:
                player.dropped = True
                loop.call_soon_threadsafe(drop)
                return
            board.stopped = True
            if on_interrupt is not None:
                loop.call_soon_threadsafe(on_interrupt)
            loop.call_soon_threadsafe(self.stop)

        previous = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)


async def _until_settled(workers: "Sequence[asyncio.Future[None]]", board: Board) -> None:
    """Wait for all, or until what is in flight is not needed; if one fails, or the waiter is cancelled, cancel the
    others. No task outlives this call.
    """
    everyone: asyncio.Future[Any] = asyncio.gather(*workers)
    settled: asyncio.Future[Any] = asyncio.ensure_future(board.settled.wait())
    try:
        await asyncio.wait((everyone, settled), return_when=asyncio.FIRST_COMPLETED)
        if everyone.done():
            everyone.result()
    finally:
        settled.cancel()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(everyone, settled, *workers, return_exceptions=True)

"""Rollouts ahead of training, with bounded staleness.

With `staleness` = S, the collections of steps n + 1 … n + S may go on while step n trains. They begin, one after the
other, once the update before step n is in the engine, so a batch is at most S updates old when it is trained on:

    S = 1    collect 0 │ collect 1       │ collect 2       │        each begun with the newest weights there are
                       │ train 0  push 1 │ train 1  push 2 │

- Without `partial`, a push of weights waits until the collection in flight is complete, and goes before the next one
  begins: every batch is sampled by one version of the weights.
- With `partial`, a push goes through at once. Episodes in flight go on under the new weights, what they said before
  stays as it was sampled, and each response records the versions behind it. A batch holds several versions then; the
  bound is the same, since none is older than the weights that its collection began with.

S = 0 collects when a batch is asked for: nothing is ever stale, nothing runs ahead.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aem_agent.model.interface import LanguageModel
from aem_agent.types import TokenEngine
from trainer.background import BackgroundLoop
from trainer.sync import push

T = TypeVar("T")


class Producer(Generic[T]):
    """Batches of RL steps, in order.

    Args:
        collect: plays the batch of a step; awaited in `loop`, one call at a time.
        engine: what it samples from.
        steps: number of steps of the run; nothing is collected beyond.
        staleness: collections that may run ahead.
        partial: let new weights in while a collection is in flight.
        temperature: at which a probe is drawn after each push; see `trainer.sync.push`.
    """

    def __init__(
        self,
        loop: BackgroundLoop,
        collect: Callable[[int], Awaitable[T]],
        engine: TokenEngine,
        *,
        steps: int,
        staleness: int = 0,
        partial: bool = False,
        temperature: float | None = None,
    ) -> None:
        self._loop = loop
        self._collect = collect
        self._engine = engine
        self._steps = steps
        self._staleness = staleness
        self._partial = partial
        self._temperature = temperature
        self._stopping = False
        self._ahead: dict[int, asyncio.Task[T]] = {}
        self._dropped: list[asyncio.Task[T]] = []
        self._turn = asyncio.Lock()
        """Held by the collection in flight, or by a push; whoever waits longest is next."""

    def take(self, step: int) -> T:
        """The batch of `step`; call `push` between two steps. Raises whatever its collection raised."""
        return self._loop.run(self._take(step))

    def push(self, model: LanguageModel | None) -> None:
        """The newest weights to the engine; raises `WeightParityError`."""
        self._loop.run(self._push(model))

    def stop(self) -> None:
        """The step in hand is the last: drop the collections ahead. Returns at once; for signal handlers too."""
        self._stopping = True
        self._loop.soon(self._drop)

    def close(self) -> None:
        """Cancel the collections in flight and wait for their end."""
        self._loop.run(self._cancel())

    async def _take(self, step: int) -> T:
        staleness = 0 if self._stopping else self._staleness
        for ahead in range(step, min(step + staleness, self._steps - 1) + 1):
            if ahead not in self._ahead:
                self._ahead[ahead] = asyncio.create_task(self._after(self._ahead.get(ahead - 1), ahead))
        return await self._ahead.pop(step)

    async def _after(self, before: "asyncio.Task[T] | None", step: int) -> T:
        if before is not None:
            await asyncio.wait([before])
            before.result()  # what failed there fails here too, and nothing is collected beyond
        async with self._turn:
            return await self._collect(step)

    async def _push(self, model: LanguageModel | None) -> None:
        if self._partial:
            await push(model, self._engine, running="keep", temperature=self._temperature)
            return
        async with self._turn:
            await push(model, self._engine, temperature=self._temperature)

    def _drop(self) -> None:
        for task in self._ahead.values():  # the one that is waited for is not among them any more
            task.cancel()
        self._dropped += self._ahead.values()
        self._ahead.clear()

    async def _cancel(self) -> None:
        self._drop()
        await asyncio.gather(*self._dropped, return_exceptions=True)
        self._dropped.clear()

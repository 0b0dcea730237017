"""Rollouts ahead of training: who may begin when, which weights a batch was sampled with, and how it ends."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aem_agent.types import GenerateRequest, Response, Running, WeightParityError
from trainer.background import BackgroundLoop
from trainer.producer import Producer

PATIENCE = 30.0
"""Seconds until a test gives up on something that should have happened."""


class Weights:
    """An engine that only counts."""

    def __init__(self) -> None:
        self.version = 0
        self.loads: list[Running] = []
        self.loaded = asyncio.Event()

    async def generate(self, request: GenerateRequest) -> Response:
        raise NotImplementedError

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        self.loads.append(running)
        self.version += 1
        self.loaded.set()

    async def aclose(self) -> None: ...


class Rig:
    """A producer over a collection that says which version it began and ended with."""

    def __init__(self, loop: BackgroundLoop, staleness: int, *, partial: bool = False, steps: int = 6) -> None:
        self.engine = Weights()
        self.log: list[str] = []
        self.done = [threading.Event() for _ in range(steps)]
        self.hold: Callable[[int], Any] | None = None
        """Awaited in the middle of a collection."""
        self.producer: Producer[tuple[int, int, int]] = Producer(
            loop, self.collect, self.engine, steps=steps, staleness=staleness, partial=partial
        )

    async def collect(self, step: int) -> tuple[int, int, int]:
        begun = self.engine.version
        self.log.append(f"begin {step}")
        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(0)
            if self.hold is not None:
                await self.hold(step)
        self.log.append(f"end {step}")
        self.done[step].set()
        return step, begun, self.engine.version

    def push(self) -> None:
        self.producer.push(None)  # type: ignore[arg-type]
        self.log.append("push")


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    opened = BackgroundLoop()
    yield opened
    opened.close()


def test_without_staleness_nothing_runs_ahead(loop: BackgroundLoop) -> None:
    rig = Rig(loop, 0, steps=3)
    for step in range(3):
        assert rig.producer.take(step) == (step, step, step)
        rig.push()
    assert rig.log == ["begin 0", "end 0", "push", "begin 1", "end 1", "push", "begin 2", "end 2", "push"]
    assert rig.engine.loads == ["wait"] * 3


@pytest.mark.parametrize("staleness", [1, 2])
def test_a_batch_lags_by_as_much_as_is_allowed_and_is_of_one_version(loop: BackgroundLoop, staleness: int) -> None:
    """Training so slow that rollouts always wait for it."""
    rig, lags = Rig(loop, staleness), []
    for step in range(6):
        found, begun, ended = rig.producer.take(step)
        assert found == step and begun == ended
        lags.append(rig.engine.version - begun)
        ahead = min(step + staleness, 5)
        assert rig.done[ahead].wait(PATIENCE), "it is collected while this step trains"
        assert not any(f"begin {later}" in rig.log for later in range(ahead + 1, 6))
        rig.push()
    assert lags == [min(step, staleness) for step in range(6)]


def test_a_push_waits_for_the_rollouts_in_flight_and_goes_before_the_next(loop: BackgroundLoop) -> None:
    rig, waiting = Rig(loop, 2, steps=3), threading.Event()

    async def hold(step: int) -> None:
        if step == 1:
            waiting.set()
            await asyncio.sleep(0.1)  # the push is asked for meanwhile

    rig.hold = hold
    rig.producer.take(0)
    assert waiting.wait(PATIENCE)
    rig.push()
    assert rig.producer.take(1) == (1, 0, 0)
    assert rig.producer.take(2) == (2, 1, 1), "it began with the new weights, though it might have begun before"


def test_with_partial_rollouts_a_push_goes_through(loop: BackgroundLoop) -> None:
    rig, waiting = Rig(loop, 1, partial=True, steps=2), threading.Event()

    async def hold(step: int) -> None:
        if step == 1:
            waiting.set()
            await rig.engine.loaded.wait()  # never, if the push waited for this collection

    rig.hold = hold
    rig.producer.take(0)
    assert waiting.wait(PATIENCE)
    rig.push()
    assert rig.producer.take(1) == (1, 0, 1)
    assert rig.engine.loads == ["keep"]


def test_what_fails_in_the_background_is_raised_where_it_is_asked_for(loop: BackgroundLoop) -> None:
    rig = Rig(loop, 2)

    async def hold(step: int) -> None:
        if step == 1:
            raise OSError("the engine is gone")

    rig.hold = hold
    rig.producer.take(0)
    rig.push()
    for step in (1, 2):
        with pytest.raises(OSError, match="the engine is gone"):
            rig.producer.take(step)
    assert "begin 2" not in rig.log, "nothing is collected after a failure"
    rig.producer.close()


def test_ctrl_c_ends_the_collection_that_is_waited_for_and_close_the_others(loop: BackgroundLoop) -> None:
    rig, ended = Rig(loop, 1), []

    async def hold(step: int) -> None:
        try:
            if step == 0:
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
                await asyncio.Event().wait()
        finally:
            ended.append(step)

    rig.hold = hold
    with pytest.raises(KeyboardInterrupt):
        rig.producer.take(0)
    assert ended == [0]
    rig.producer.close()
    assert loop.call(lambda: len(asyncio.all_tasks())) == 2, "the loop itself and this call"


def test_ctrl_c_while_training_closes_the_collection_in_the_background(loop: BackgroundLoop) -> None:
    rig, waiting, ended = Rig(loop, 1), threading.Event(), []

    async def hold(step: int) -> None:
        if step == 1:
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(step)

    rig.hold = hold
    rig.producer.take(0)
    assert waiting.wait(PATIENCE)
    rig.producer.close()  # what leaving the run does
    assert ended == [1]


def test_a_sync_that_went_wrong_is_said_with_advice(loop: BackgroundLoop) -> None:
    rig = Rig(loop, 0)

    async def lost(state: Any, *, running: Running = "wait") -> None:
        raise WeightParityError("log-probs differ by 0.5 nats")

    rig.engine.load_weights = lost  # type: ignore[method-assign]
    with pytest.raises(WeightParityError, match=r"differ by 0\.5 nats.*resume from the last checkpoint"):
        rig.push()

"""The event loop in its thread: results, errors, interruptions, and its end."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from trainer.background import BackgroundLoop, LoopClosedError


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    opened = BackgroundLoop()
    yield opened
    opened.close()


async def thread_name(*, fail: bool = False) -> str:
    await asyncio.sleep(0)
    if fail:
        raise ValueError("as told")
    return threading.current_thread().name


def test_results_and_errors_come_back_to_the_caller(loop: BackgroundLoop) -> None:
    assert loop.run(thread_name()) == "event-loop" == loop.call(lambda: threading.current_thread().name)
    with pytest.raises(ValueError, match="as told"):
        loop.run(thread_name(fail=True))
    assert loop.run(thread_name()) == "event-loop", "an error ends one call only"


def test_what_is_awaited_again_meets_the_same_loop(loop: BackgroundLoop) -> None:
    async def here() -> int:
        return id(asyncio.get_running_loop())

    assert loop.run(here()) == loop.run(here())


def test_ctrl_c_cancels_what_is_waited_for_and_lets_it_clean_up(loop: BackgroundLoop) -> None:
    steps: list[str] = []

    async def forever() -> None:
        try:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        loop.run(forever())
    assert steps == ["cleaned up"]
    assert loop.run(thread_name()) == "event-loop"


def test_a_task_that_exits_ends_its_own_call_only(loop: BackgroundLoop) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        loop.run(leave())
    assert loop.run(thread_name()) == "event-loop"


def test_closing_cancels_what_is_left_and_later_calls_are_refused() -> None:
    loop, ended = BackgroundLoop(), threading.Event()

    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def begin() -> "asyncio.Task[None]":
        task = asyncio.create_task(left())
        await asyncio.sleep(0)
        return task

    task = loop.run(begin())
    loop.close()
    loop.close()
    assert ended.is_set() and task.cancelled()
    assert not any(thread.name == "event-loop" and thread is loop._thread for thread in threading.enumerate())
    with pytest.raises(LoopClosedError, match="aem-train resume"):
        loop.run(thread_name())

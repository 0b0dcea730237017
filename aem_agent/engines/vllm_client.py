"""vLLM's client side in a thread of its own, and what to do when the processes behind it end."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from aem_agent.engines import vllm_compat as compat
from aem_agent.engines.loop_thread import LoopThread
from aem_agent.engines.vllm_room import Room
from aem_agent.types import EngineError

T = TypeVar("T")

DEAD = "vLLM's engine process has ended; its last words are on the standard error. Load the engine again"


def failure(error: Exception) -> EngineError:
    """vLLM's error as ours."""
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    return EngineError(f"vLLM failed: {type(error).__name__}: {error}{cause}"[:500])


class VllmClient:
    """An `AsyncLLM` (`llm`) in the loop of `thread`, with its files in `room`.

    Whatever waits for vLLM goes through `run`, so that nothing waits for a process that has ended: vLLM itself takes an
    orderly end for nothing, and lets requests wait for ever.
    """

    def __init__(self, llm: Any, thread: LoopThread, room: Room | None = None) -> None:
        self.llm = llm
        self.thread = thread
        self._room = room
        self.dead = False
        self._waiting: set[asyncio.Task[Any]] = set()

    async def watch(self) -> None:
        """Notice the end of vLLM's process. In the thread's loop."""
        for process in compat.processes(self.llm):
            asyncio.get_running_loop().add_reader(process.sentinel, self._died, process.sentinel)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` in the thread's loop; raises `EngineError` as soon as vLLM has ended."""
        return await self.thread.run(self._guarded(work))

    def rpc(self, what: str, info: Mapping[str, Any] | None) -> None:
        """One call of vLLM's weight update, waited for; from a thread that is not the loop's."""
        call = compat.update_call(self.llm, what, info or {})
        asyncio.run_coroutine_threadsafe(self._guarded(call), self.thread.loop).result()

    async def ask(self, ids: Sequence[int], params: Any, name: str, adapter: Any = None) -> compat.Answer:
        """One answer; raises `EngineError`. In the thread's loop, within `run`."""
        try:
            return await compat.answer(self.llm, ids, params, name, adapter)
        except (asyncio.CancelledError, EngineError):
            raise
        except Exception as error:
            raise failure(error) from error

    async def close(self) -> None:
        """End vLLM's processes, then the thread, and remove their files."""
        await self.thread.run(self._stop())
        await asyncio.to_thread(self.thread.stop)
        if self._room is not None:
            await asyncio.to_thread(self._room.close)

    def _died(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        self.dead = True
        for task in self._waiting:
            task.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        if self.dead:
            work.close()
            raise EngineError(DEAD)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._waiting.add(task)
        try:
            return await work
        except asyncio.CancelledError:
            if self.dead:
                raise EngineError(DEAD) from None
            raise
        finally:
            self._waiting.discard(task)

    async def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        started = list(compat.processes(self.llm))
        for process in started:
            loop.remove_reader(process.sentinel)
        compat.stop(self.llm)
        for process in started:
            await loop.run_in_executor(None, process.join, 10)
            if process.is_alive():
                process.kill()

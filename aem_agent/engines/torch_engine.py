"""Sampling in this process: requests join a running batch of the cached sampler and leave it when they are finished."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import nn

from aem_agent.engines.admission import Admission
from aem_agent.engines.torch_weights import PARITY_TOLERANCE as PARITY_TOLERANCE
from aem_agent.engines.torch_weights import PARITY_TOLERANCE_HALF as PARITY_TOLERANCE_HALF
from aem_agent.engines.torch_weights import assert_parity, check_fit, copy_weights
from aem_agent.model.conversations import Conversations
from aem_agent.model.devices import torch_device
from aem_agent.model.draw import check_sampling
from aem_agent.model.interface import LanguageModel, WeightsMismatchError, load_model, load_tokenizer
from aem_agent.model.sampler import Row, Sampler, check_fits
from aem_agent.types import EngineError, GenerateRequest, Response, Running, TokenizerLike

QUIET_ROUNDS = 3
"""Turns of the event loop without a new request before an empty batch starts: coroutines woken together need one or
two."""

STEPS_AWAY = 8
"""Most decode steps in the worker thread before the event loop is asked for news, while nobody waits."""

T = TypeVar("T")
Future = asyncio.Future[Response]


class Waiting(NamedTuple):
    """A request that has no row yet."""

    request: GenerateRequest
    future: Future


class TorchEngine:
    """A `TokenEngine` over a model in this process.

    With `deterministic` (default) steps run inline in the event loop, and what is computed together depends only on the
    order in which coroutines ask; otherwise steps run in one worker thread, so that environments can move on meanwhile.
    With `share` the model is the trainer's own module. Up to `cache_bytes` hold keys and values of conversations (0:
    none), so that a turn costs what is new in it. `admission` says when requests join a running batch.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: TokenizerLike,
        *,
        max_batch: int = 256,
        deterministic: bool = True,
        share: bool = False,
        cache_bytes: int = 1 << 30,
        admission: Admission | None = None,
    ) -> None:
        if max_batch < 1:
            raise EngineError(f"max_batch must be at least 1, not {max_batch}")
        self.model = model
        self.tokenizer = tokenizer
        self.version = 0
        self.max_batch = max_batch
        self.share = share
        self._conversations = Conversations(cache_bytes) if cache_bytes > 0 else None
        self._sampler = Sampler(model, tokenizer, self._conversations)
        self._admission = admission or Admission()
        self._worker = None if deterministic else ThreadPoolExecutor(1, thread_name_prefix="torch-engine")
        self._waiting: list[Waiting] = []
        self._running: dict[Row, Future] = {}
        self._serving: asyncio.Task[None] | None = None
        self._held: list[asyncio.Future[None]] = []
        """Weight updates that wait until nothing runs; done when they are."""
        self._news = False
        """Tells the worker thread that requests came or went."""
        self._closed = False

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        max_batch: int = 256,
        deterministic: bool = True,
        cache_bytes: int = 1 << 30,
    ) -> "TorchEngine":
        """From a model folder; raises subclasses of `ModelError`."""
        model = load_model(folder, device=str(torch_device(device)), dtype=getattr(torch, dtype))
        return cls(
            model, load_tokenizer(folder), max_batch=max_batch, deterministic=deterministic, cache_bytes=cache_bytes
        )

    @property
    def max_positions(self) -> int:
        """Tokens that prompt and response may have together."""
        return self.model.max_positions

    async def generate(self, request: GenerateRequest) -> Response:
        """Draw one response; raises `ContextOverflowError` when prompt and response exceed the model's positions."""
        self._refuse_closed()
        self._check(request)
        future: Future = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(request, future))
        self._schedule()
        try:
            return await future
        except asyncio.CancelledError:
            self._news = True
            raise

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        """Copy weights in place from a module of the same architecture or a state dict, and bump `version`.

        Requests in flight are finished first (`wait`), or go on under the new weights, with keys and values computed
        anew (`keep`). A module is compared on a probe prompt, cached sampling against its plain forward; from a state
        dict every tensor is compared. Raises `WeightsMismatchError`, and then nothing has changed, and
        `WeightParityError`, which also fails the requests in flight.
        """
        self._refuse_closed()
        if running == "keep":
            await self._update(state)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.append(done)
        try:
            while self._serving is not None:
                await asyncio.wait([self._serving])
            await self._update(state)
        finally:
            self._held.remove(done)
            done.set_result(None)
            self._schedule()

    async def aclose(self) -> None:
        """Finish what was asked, refuse what comes."""
        self._closed = True
        while asked := [*self._held, *([self._serving] if self._serving is not None else [])]:
            await asyncio.wait(asked)
        if self._worker is not None:
            self._worker.shutdown()
        self._sampler.clear()
        self.forget()

    def forget(self) -> None:
        """Drop what is kept of conversations."""
        if self._conversations is not None:
            self._conversations.clear()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def _check(self, request: GenerateRequest) -> None:
        check_fits(request, self.model.max_positions)
        check_sampling(request.sampling)
        prompt, new = request.prompt_token_ids, request.sampling.max_new_tokens
        if not prompt or new < 1:
            raise EngineError(f"a request needs a prompt and room for a token, not {len(prompt)} and {new}")
        low, high = min(prompt), max(prompt)
        if low < 0 or high >= self.model.vocab_size:
            raise EngineError(f"token {low if low < 0 else high} is outside the vocabulary of {self.model.vocab_size}")

    # -- the batch ----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        self._news = True
        if self._serving is None and self._waiting and not self._held:
            self._serving = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        """Run steps until nothing runs and nothing may start."""
        joining: list[Waiting] = []
        try:
            while await self._quiet():
                joining = self._joining()
                gone = [row for row, future in self._running.items() if future.done()]
                steps = 1 if self._worker is None or self._waiting else STEPS_AWAY
                try:
                    rows, finished = await self._call(self._work, gone, [item.request for item in joining], steps)
                except Exception as error:
                    self._fail(error, joining)
                    continue
                self._running |= zip(rows, (item.future for item in joining), strict=True)
                for row in gone:
                    self._running.pop(row, None)
                for row, response in finished:
                    future = self._running.pop(row, None)
                    if future is not None and not future.done():
                        future.set_result(response)
        except BaseException:  # this task was stopped, and its loop with it
            self._in_worker(self._sampler.clear)
            self._fail(EngineError("the event loop ended"), [*joining, *self._waiting], all_rows=True)
            self._waiting = []
            raise
        finally:
            self._serving = None

    async def _quiet(self) -> bool:
        """Let others ask, step their environments or give up; false when there is nothing to do.

        Beside running rows one turn of the event loop must do. Before an empty batch starts, nobody may ask any more.
        """
        await asyncio.sleep(0)
        if self._running:
            return True
        seen, rounds = len(self._waiting), 1
        while rounds < QUIET_ROUNDS:
            await asyncio.sleep(0)
            rounds = rounds + 1 if len(self._waiting) == seen else 0
            seen = len(self._waiting)
        return bool(self._waiting) and not self._held

    def _joining(self) -> list[Waiting]:
        """Those of the longest waiting that get a row now, by seed: so their order does not matter."""
        self._waiting = [item for item in self._waiting if not item.future.done()]
        if self._held or (self._running and not self._sampler.joins):
            return []
        count = min(len(self._waiting), self.max_batch - len(self._running))
        if not self._admission.admits(count, len(self._running)):
            return []
        joining, self._waiting = self._waiting[:count], self._waiting[count:]
        return sorted(joining, key=lambda item: item.request.seed)

    def _work(
        self, gone: Sequence[Row], requests: Sequence[GenerateRequest], steps: int
    ) -> tuple[list[Row], list[tuple[Row, Response]]]:
        """At most so many steps, until there is something to tell or to be told: new rows, and finished ones."""
        sampler, self._news = self._sampler, False
        try:
            if gone:
                sampler.leave(gone)
            rows = sampler.admit(requests, self.version) if requests else []
            finished = sampler.draw()
            while steps > 1 and not finished and sampler.rows and not self._news:
                finished = sampler.draw()
                steps -= 1
            return rows, [(row, sampler.response(row)) for row in finished]
        except BaseException:
            sampler.clear()
            raise

    async def _update(self, state: Any) -> None:
        try:
            await self._call(self._swap, state)
        except WeightsMismatchError:
            raise
        except Exception as error:
            self._fail(error)
            raise

    def _swap(self, state: Any) -> None:
        """New weights between two steps; nothing that was computed under the old ones is kept."""
        source = None if self.share and state is self.model else check_fit(state, self.model)
        self.forget()
        try:
            if source is not None:
                copy_weights(source, self.model)
            self.version += 1
            if isinstance(state, nn.Module):
                assert_parity(cast(LanguageModel, state), self.model)
            self._sampler.recompute(self.version)
        except BaseException:
            self._sampler.clear()
            raise

    def _fail(self, error: Exception, joining: Sequence[Waiting] = (), *, all_rows: bool = False) -> None:
        """Tell those whose rows are lost."""
        kept = set() if all_rows else set(self._sampler.rows)
        lost = [row for row in self._running if row not in kept]
        futures = [self._running.pop(row) for row in lost] + [item.future for item in joining]
        for future in futures:
            if not future.done():
                future.set_exception(_engine_error(error))

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Between two steps: inline, or in the worker thread."""
        if self._worker is None:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    def _in_worker(self, work: Callable[[], None]) -> None:
        """The same, without waiting for it."""
        if self._worker is None:
            work()
        else:
            self._worker.submit(work)


def _engine_error(error: Exception) -> EngineError:
    """One for each request: who catches it may add to it."""
    known = type(error) is EngineError
    wrapped = EngineError(str(error) if known else f"sampling failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped

"""Sampling in this process: requests awaited at the same time become one batch of the cached sampler."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from aem_agent.model.conversations import Conversations
from aem_agent.model.devices import torch_device
from aem_agent.model.interface import LanguageModel, WeightsMismatchError, load_model, load_tokenizer
from aem_agent.model.sampler import Sampler
from aem_agent.types import ContextOverflowError, EngineError, GenerateRequest, Response, TokenizerLike

QUIET_ROUNDS = 3
"""Turns of the event loop without a new request before a batch starts: coroutines woken together need one or two."""

PARITY_TOLERANCE = 1e-4
"""Largest difference in log-probs, nats, between trainer and engine after a weight sync in float32."""

PARITY_TOLERANCE_HALF = 0.1
"""The same when either side computes in half precision."""


class WeightParityError(EngineError):
    """After a weight sync the engine's log-probs differ from the trainer's: it would sample from another policy."""


class TorchEngine:
    """A `TokenEngine` over a model in this process.

    With `deterministic` (default) batches run inline in the event loop, requests ordered by seed; otherwise in one
    worker thread, so that environments can move on meanwhile. With `share` the model is the trainer's own module.
    Up to `cache_bytes` hold keys and values of conversations (0: none), so that a turn costs what is new in it.
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
        self._worker = None if deterministic else ThreadPoolExecutor(1, thread_name_prefix="torch-engine")
        self._pending: list[tuple[GenerateRequest, asyncio.Future[Response]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._paused = False
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
        if self._closed:
            raise EngineError("the engine is closed")
        self._check(request)
        future = asyncio.get_running_loop().create_future()
        self._pending.append((request, future))
        self._schedule()
        return cast(Response, await future)

    async def load_weights(self, state: Any) -> None:
        """Copy weights in place from a module of the same architecture or a state dict, and bump `version`.

        Waits for running requests. A module is then compared on a probe prompt, cached sampling against its plain
        forward; from a state dict every tensor is compared. Raises `WeightsMismatchError`,
        `WeightParityError`.
        """
        self._paused = True
        try:
            while self._flushing is not None:
                await asyncio.wait([self._flushing])
            self.forget()
            if not (self.share and state is self.model):
                self._copy(state)
            self.version += 1
            if isinstance(state, nn.Module):
                assert_parity(cast(LanguageModel, state), self.model)
        finally:
            self._paused = False
            if self._pending:
                self._schedule()

    async def aclose(self) -> None:
        """Finish what runs, refuse what comes."""
        self._closed = True
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self._worker is not None:
            self._worker.shutdown()
        self.forget()

    def forget(self) -> None:
        """Drop what is kept of conversations; not while requests run."""
        if self._conversations is not None:
            self._conversations.clear()

    def _check(self, request: GenerateRequest) -> None:
        prompt, new = len(request.prompt_token_ids), request.sampling.max_new_tokens
        if prompt + new > self.model.max_positions:
            raise ContextOverflowError(
                f"prompt of {prompt} tokens and {new} new ones, the model takes {self.model.max_positions}: "
                "shorten the history"
            )
        if prompt < 1 or new < 1:
            raise EngineError(f"a request needs a prompt and room for a token, not {prompt} and {new}")
        low, high = min(request.prompt_token_ids), max(request.prompt_token_ids)
        if low < 0 or high >= self.model.vocab_size:
            raise EngineError(f"token {low if low < 0 else high} is outside the vocabulary of {self.model.vocab_size}")

    def _schedule(self) -> None:
        if self._flushing is None and not self._paused:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        """Wait until nobody asks any more, then run a batch of the longest waiting; again until none is pending."""
        try:
            while self._pending and not self._paused:
                await self._quiet()
                batch, self._pending = self._pending[: self.max_batch], self._pending[self.max_batch :]
                batch = [(request, future) for request, future in batch if not future.done()]
                if batch:
                    await self._run(sorted(batch, key=lambda item: item[0].seed))
        finally:
            self._flushing = None

    async def _quiet(self) -> None:
        seen, rounds = len(self._pending), 0
        while rounds < QUIET_ROUNDS:
            await asyncio.sleep(0)
            rounds = rounds + 1 if len(self._pending) == seen else 0
            seen = len(self._pending)

    async def _run(self, batch: list[tuple[GenerateRequest, "asyncio.Future[Response]"]]) -> None:
        requests = [request for request, _ in batch]
        try:
            if self._worker is None:
                responses = self._sampler(requests, self.version)
            else:
                loop = asyncio.get_running_loop()
                responses = await loop.run_in_executor(self._worker, self._sampler, requests, self.version)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, EngineError) else _engine_error(error))
            return
        for (_, future), response in zip(batch, responses, strict=True):
            if not future.done():
                future.set_result(response)

    def _copy(self, state: Any) -> None:
        source: Mapping[str, Tensor] = state.state_dict() if isinstance(state, nn.Module) else state
        target = self.model.state_dict()
        if source.keys() != target.keys():
            odd = sorted(source.keys() ^ target.keys())
            raise WeightsMismatchError(f"weights of another architecture: {', '.join(odd[:3])} …")
        for name, tensor in source.items():
            if tensor.shape != target[name].shape:
                raise WeightsMismatchError(
                    f"{name!r} is {tuple(tensor.shape)}, the engine's {tuple(target[name].shape)}"
                )
        with torch.no_grad():
            for name, tensor in source.items():
                target[name].copy_(tensor)
            for name, tensor in source.items():
                if not torch.equal(target[name], tensor.to(target[name])):
                    raise WeightParityError(
                        f"{name!r} differs from the weights just loaded: two names share one tensor?"
                    )


def _engine_error(error: Exception) -> EngineError:
    wrapped = EngineError(f"sampling failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


@torch.no_grad()
def assert_parity(trainer: LanguageModel, engine: LanguageModel, tokens: int = 12) -> None:
    """Compare the trainer's packed forward with the engine's cached steps on a probe of fixed tokens, all logits of the
    last half; raises `WeightParityError`."""
    tokens = min(tokens, engine.max_positions)
    ids = [(7 * i + 3) % engine.vocab_size for i in range(tokens)]
    half = tokens // 2
    there = torch.tensor(ids, device=trainer.device)
    want = trainer.head(trainer.hidden(there, torch.tensor([0, tokens], device=trainer.device))[half - 1 :])
    here = torch.tensor(ids, device=engine.device)
    hidden, cache = engine.prefill(here[:half], torch.tensor([0, half], device=engine.device), tokens - half)
    got = [engine.head(hidden)]
    got += [engine.head(engine.step(here[i : i + 1], cache)) for i in range(half, tokens)]
    want, found = (x.float().log_softmax(-1).cpu() for x in (want, torch.cat(got)))
    worst = float((want - found).abs().max())
    whole = all(next(m.parameters()).dtype == torch.float32 for m in (trainer, engine))
    limit = PARITY_TOLERANCE if whole else PARITY_TOLERANCE_HALF
    if not worst <= limit:
        raise WeightParityError(
            f"log-probs of trainer and engine differ by {worst:.2g} nats (allowed {limit:.0e}) after a sync"
        )

"""Engines without a model, for tests: fixed or scripted tokens, latency, failures on demand."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import log
from pathlib import Path
from typing import Any

from aem_agent.types import EngineError, GenerateRequest, Response, Running, TokenizerLike


@dataclass(frozen=True, slots=True)
class ByteTokenizer:
    """Characters below 256 are their own code; 256 ends. Enough for tests of prompts and engines."""

    eos_token_id: int = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if 0 <= i < 256).decode("utf-8", "replace")


class FakeTokenEngine:
    """A `TokenEngine` whose answers are a pure function of the request.

    `reply` gives the text of a response from its request; without it, letters come from a hash of it. `latency`
    seconds pass per call. `fail` is asked at each call with its number, counted from 0: true raises `EngineError`.
    """

    max_positions = 4096

    def __init__(
        self,
        tokenizer: TokenizerLike | None = None,
        *,
        reply: Callable[[GenerateRequest], str] | None = None,
        latency: float = 0.0,
        fail: Callable[[int], bool] | None = None,
    ) -> None:
        self.tokenizer: TokenizerLike = tokenizer or ByteTokenizer()
        self.version = 0
        self.calls = 0
        self.running = 0
        self.most_running = 0
        """Largest number of requests that ran at the same time."""
        self._reply = reply
        self._latency = latency
        self._fail = fail
        self._closed = False

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", max_batch: int = 1, **options: Any) -> "FakeTokenEngine":
        """Ignores the folder, the device and the limit."""
        return cls(**options)

    async def generate(self, request: GenerateRequest) -> Response:
        """Answer after `latency`; raises `EngineError` when told to, when closed, and for an empty prompt."""
        if self._closed:
            raise EngineError("the engine is closed")
        if not request.prompt_token_ids or request.sampling.max_new_tokens < 1:
            raise EngineError("a request needs a prompt and room for a token")
        call, self.calls = self.calls, self.calls + 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        version = self.version
        try:
            await asyncio.sleep(self._latency)
            if self._fail is not None and self._fail(call):
                raise EngineError(f"call {call} fails as told")
            return self._answer(request, version)
        finally:
            self.running -= 1

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        """Waits for running requests and bumps `version`."""
        while self.running:
            await asyncio.sleep(self._latency / 4)
        self.version += 1

    async def aclose(self) -> None:
        """Refuse further requests."""
        self._closed = True

    def _answer(self, request: GenerateRequest, version: int) -> Response:
        sampling, eos = request.sampling, self.tokenizer.eos_token_id
        text = self._reply(request) if self._reply else _letters(request)
        ids: list[int] = []
        stopped = False
        for token in [*self.tokenizer.encode(text), eos][: sampling.max_new_tokens]:
            ids.append(token)
            said = self.tokenizer.decode(ids)
            stopped = token in (eos, *sampling.stop_token_ids) or any(s in said for s in sampling.stop)
            if stopped:
                break
        return Response(
            text=self.tokenizer.decode(ids),
            token_ids=tuple(ids),
            logprobs=(-log(2.0),) * len(ids),
            entropies=(log(2.0),) * len(ids) if sampling.entropies else None,
            finish_reason="stop" if stopped else "length",
            policy_versions=((0, version),),
        )


class ScriptedEngine(FakeTokenEngine):
    """Says the given texts one after another, then starts again."""

    def __init__(self, texts: Sequence[str], tokenizer: TokenizerLike | None = None, **options: Any) -> None:
        if not texts:
            raise EngineError("a scripted engine needs at least one text")
        self._next = 0

        def reply(_: GenerateRequest) -> str:
            text = texts[self._next % len(texts)]
            self._next += 1
            return text

        super().__init__(tokenizer, reply=reply, **options)


def _letters(request: GenerateRequest) -> str:
    """A to z, between 1 and 12 of them, from a hash of the request."""
    text = f"{request.seed} {request.prompt_token_ids} {request.sampling.temperature}"
    digest = blake2b(text.encode(), digest_size=13).digest()
    return "".join(chr(97 + byte % 26) for byte in digest[1 : 2 + digest[0] % 12])

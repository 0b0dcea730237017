"""Token ids in, token ids out, from a vLLM server of our own, whose weights can be replaced."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from aem_agent.engines import vllm_compat as compat
from aem_agent.engines import vllm_digest
from aem_agent.engines import vllm_transfer as transfer
from aem_agent.engines.completions_engine import PATH, CompletionsEngine, Drawn
from aem_agent.engines.endpoint import Endpoint
from aem_agent.engines.endpoint_usage import Used
from aem_agent.engines.openai_engine import FINISH, MALFORMED, malformed
from aem_agent.engines.torch_weights import PARITY_TOLERANCE, PARITY_TOLERANCE_HALF
from aem_agent.engines.vllm_server import NAME, VllmServer, vllm_of
from aem_agent.engines.vllm_settings import VllmSettings
from aem_agent.model.interface import load_tokenizer
from aem_agent.seeds import turn_seed
from aem_agent.types import EngineError, GenerateRequest, Response, Running, TokenizerLike, WeightParityError

UNENDED = "a weight update did not end: load weights again"
_LONGEST_PROBE = 300
"""Tokens of the prompt that shows whether keys and values of old weights were kept: more than a block of the cache."""
_LEFT = 2.0
"""Seconds until interrupted requests have come back; those that have not, had not begun."""


class VllmServerEngine(CompletionsEngine):
    """A `LocalEngine` over a `VllmServer`, which it owns. Make it with `load`.

    At an update with `running="keep"`, what was drawn so far comes back, and each response goes on under the new
    weights as a new request that begins with it: nothing computed with the old weights is used again.
    """

    evaluation_options: ClassVar = {"updates": False}
    """Of `load` where weights will stay: vLLM's development routes are left out."""

    def __init__(self, server: VllmServer, tokenizer: TokenizerLike, *, timeout: float = 600.0) -> None:
        self.server = server
        settings = server.settings
        super().__init__(
            NAME,
            tokenizer,
            base_url=server.url,
            key=server.key,
            concurrency=2 * settings.max_batch,  # the next batch waits at the server
            processed=True,
            max_positions=settings.max_model_len,
            vocab_size=settings.vocab_size,
            timeout=timeout,
            retries=2,  # on loopback a failure hardly passes by itself
            lost=server.lost,
        )
        self._control = Endpoint(
            server.root, key=server.key, concurrency=4, timeout=timeout, retries=2, lost=server.lost, reuse=False
        )
        self._sent: set[asyncio.Task[Drawn]] = set()
        self._changing: asyncio.Event | None = None
        """Set at the end of the update that is under way."""
        self._unfit = ""
        """Why no request may be answered."""
        self._closed = False

    @classmethod
    def load(
        cls, folder: str | Path, *, device: str = "cpu", max_batch: int = 64, updates: bool = True, **options: Any
    ) -> "VllmServerEngine":
        """Start a server for the model in `folder`; see `VllmServer` for arguments and errors."""
        tokenizer = load_tokenizer(folder)
        return cls(VllmServer(folder, device=device, max_batch=max_batch, updates=updates, **options), tokenizer)

    @classmethod
    def checked(cls, folder: Path | None, *, device: str, max_batch: int, **options: Any) -> None:
        """What can be told before `load`, at once: raises as it does. `folder` is None where it has yet to be made."""
        settings = {n: v for n, v in options.items() if n not in ("updates", "python", "start_limit", "arguments")}
        VllmSettings.check(settings)
        vllm_of(options.get("python"))
        if folder is not None:
            VllmSettings.of(folder, device, max_batch, settings)

    async def generate(self, request: GenerateRequest) -> Response:
        """Draw one response; raises as `CompletionsEngine.generate`."""
        self._check(request)
        sampling = request.sampling
        parts: list[Drawn] = []
        ids: tuple[int, ...] = ()
        versions: list[tuple[int, int]] = []
        while True:
            await self._settled()
            self._assert_fit()
            version, seed = self.version, turn_seed(request.seed, len(ids)) if ids else request.seed
            left = sampling.max_new_tokens - len(ids)
            drawn = await self._part(request, ids, left, seed)
            if drawn.ids:
                if not versions or versions[-1][1] != version:
                    versions.append((len(ids), version))
                parts.append(drawn)
                ids += drawn.ids
            if drawn.reason != "abort":
                break
            if self._changing is None and version == self.version:
                raise self.endpoint.error(PATH, "the server gave a request up")
        if drawn.reason not in FINISH:
            reason = self.endpoint.masked(drawn.reason)[:40]
            raise self.endpoint.error(PATH, f"the response ended for the reason {reason!r}")
        logprobs = tuple(x for part in parts for x in part.logprobs)
        return self._response(Drawn(ids, logprobs, drawn.reason, drawn.used), sampling, tuple(versions))

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        """Send new weights through memory, drop cached prompts, bump `version`, and compare log-probs.

        Raises:
            WeightsMismatchError: of another architecture; nothing was changed.
            WeightParityError: the server computes with other weights than those handed over; it answers no request
                until weights are loaded that agree.
            EngineError: the server was not started with `updates`, or fails.
        """
        self._assert_open()
        if not self.server.updates:
            raise EngineError("the server was started for evaluation: load the engine with updates=True")
        model = transfer.as_model(state, self.server.settings.folder)
        await self._settled()
        self._changing = done = asyncio.Event()
        try:
            if running == "keep":
                self._unfit = UNENDED  # the server is paused from now on: rather refuse than wait for it
                await self._interrupt()
            elif self._sent:
                await asyncio.wait(self._sent)
            await self._replace(model)
        finally:
            self._changing = None
            done.set()

    async def aclose(self) -> None:
        """Finish what runs, refuse what comes, end the server."""
        if self._closed:
            return
        self._closed = True
        if self._sent:
            await asyncio.wait(self._sent)
        await self.endpoint.aclose()
        await self._control.aclose()
        await asyncio.to_thread(self.server.close)

    async def _settled(self) -> None:
        while self._changing is not None:
            await self._changing.wait()

    def _check(self, request: GenerateRequest) -> None:
        self._assert_open()
        super()._check(request)
        low, high = min(request.prompt_token_ids), max(request.prompt_token_ids)
        vocabulary = self.server.settings.vocab_size
        if low < 0 or high >= vocabulary:
            raise EngineError(f"token {low if low < 0 else high} is outside the vocabulary of {vocabulary}")
        if 0 < request.sampling.temperature < compat.LEAST_TEMPERATURE:
            raise EngineError(f"vLLM draws at {compat.LEAST_TEMPERATURE} or above, or greedily at 0")

    def _assert_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def _assert_fit(self) -> None:
        self._assert_open()
        if self._unfit:
            raise EngineError(f"no request can be answered: {self._unfit}")

    async def _part(self, request: GenerateRequest, ids: tuple[int, ...], left: int, seed: int) -> Drawn:
        """What the server draws until the response ends or is interrupted."""
        sampling = replace(request.sampling, max_new_tokens=left)
        task = asyncio.ensure_future(self._draw((*request.prompt_token_ids, *ids), sampling, seed))
        self._sent.add(task)
        task.add_done_callback(self._sent.discard)
        try:
            await asyncio.wait([task])
        finally:
            if not task.done():  # we were cancelled: so is the request
                task.cancel()
        return Drawn((), (), "abort", Used(None)) if task.cancelled() else task.result()

    async def _interrupt(self) -> None:
        """Have all running requests come back with what they have."""
        await self._control.post("/pause?mode=abort", {})
        if self._sent:
            _, late = await asyncio.wait(self._sent, timeout=_LEFT)
            for task in late:  # reached the server after the pause: nothing was drawn, and it is asked for again
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _replace(self, model: Any) -> None:
        settings = self.server.settings
        loop = asyncio.get_running_loop()
        self._unfit = UNENDED
        await self._control.post("/resume", {})
        prompt, new = transfer.probe(model, settings.max_model_len, _LONGEST_PROBE)
        await self._probe(prompt, new)  # so that the server keeps keys and values of it, which it must not use again
        send = transfer.Sender("memory", self._rpc(loop), settings.torch_dtype, settings.tensor_parallel)
        await self._send(send, model)
        await self._control.post("/reset_prefix_cache", {})
        self.version += 1
        found = await self._probe(prompt, new, prompt_logprobs=compat.PROBE_LOGPROBS)  # computed without anything kept
        await loop.run_in_executor(None, transfer.assert_parity, model, prompt, found, settings.torch_dtype)
        _assert_forgotten(found, await self._probe(prompt, new), settings.torch_dtype)
        if settings.tensor_parallel == 1:
            vllm_digest.assert_arrived(send.sent, await self._told(vllm_digest.asked(send.sent, settings.torch_dtype)))
        self._unfit = ""

    async def _send(self, send: Callable[[Any], None], model: Any) -> None:
        """In a thread. Cancelled, it still waits for that: two updates at once end the server."""
        sending = asyncio.get_running_loop().run_in_executor(None, send, model)
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait([sending])
            raise

    async def _told(self, question: str) -> Any:
        """What the server's worker says it computes with."""
        answer = await self._control.post("/collective_rpc", {"method": "aem_told", "args": [question]})
        try:
            (told,) = answer["results"]
        except MALFORMED:
            raise malformed(self._control, "/collective_rpc", "one worker's answer", answer) from None
        return told

    async def _probe(self, prompt: list[int], new: int, **more: Any) -> compat.Answer:
        """Greedy tokens after the prompt, and what `more` asks for, at temperature 1."""
        drawn = {"model": NAME, "prompt": prompt, "max_tokens": new, "temperature": 0.0, "ignore_eos": True}
        answer = await self.endpoint.post(PATH, {**drawn, "logprobs": 0, "return_token_ids": True, **more})
        told = self._read(answer, prompt, new)
        try:
            positions = (answer["choices"][0].get("prompt_logprobs") or [])[1:]
            at = tuple({int(token): float(x["logprob"]) for token, x in found.items()} for found in positions)
        except MALFORMED:
            raise malformed(self.endpoint, PATH, "a probe's log-probs", answer) from None
        return compat.Answer(told.ids, told.logprobs, told.reason, at)

    def _rpc(self, loop: asyncio.AbstractEventLoop) -> transfer.Rpc:
        """vLLM's weight update calls, for the thread that sends."""
        routes: dict[str, tuple[str, str | None]] = {
            "init": ("/init_weight_transfer_engine", "init_info"),
            "start": ("/start_weight_update", None),
            "update": ("/update_weights", "update_info"),
            "finish": ("/finish_weight_update", None),
        }

        def call(what: str, info: Mapping[str, Any] | None) -> None:
            path, name = routes[what]
            payload = {} if name is None else {name: dict(info or {})}
            asyncio.run_coroutine_threadsafe(self._control.post(path, payload, tries=1), loop).result()

        return call


def _assert_forgotten(computed: compat.Answer, kept: compat.Answer, dtype: torch.dtype) -> None:
    """The same draw with and without the server's cache of prompts; raises `WeightParityError` if they differ."""
    limit = PARITY_TOLERANCE if dtype == torch.float32 else PARITY_TOLERANCE_HALF
    worst = abs(computed.logprobs[0] - kept.logprobs[0])
    if not worst <= limit:
        raise WeightParityError(
            f"log-probs of the same prompt differ by {worst:.2g} nats (allowed {limit:.0e}): the server uses keys and "
            "values of old weights, and answers no request before weights are loaded that agree"
        )

"""vLLM in this process's service: token ids in, token ids out, and weights replaced while it runs.

The model computes in vLLM's own processes. vLLM's client side lives in an event loop of its own thread, so that the
engine may be used from any loop, and from several one after another. Entropies are always None: vLLM does not give
full-vocabulary ones.

(Somewhat over 300 lines: one class, whose methods share the gate that weight updates close.)
"""

import asyncio
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aem_agent.engines import vllm_compat as compat
from aem_agent.engines import vllm_digest
from aem_agent.engines.vllm_answers import Versions, check_request, response
from aem_agent.engines.vllm_client import VllmClient, failure
from aem_agent.engines.vllm_settings import VllmSettings
from aem_agent.types import AgentError, EngineError, GenerateRequest, Response, Running, TokenizerLike

CLOSED = "the engine is closed"


@dataclass(slots=True)
class _Run:
    """A request that vLLM works on."""

    began: int
    """Weights version at its start."""
    versions: list[tuple[int, int]]
    """(first token, weights version)."""


@dataclass(slots=True)
class VllmEngine:
    """A `LocalEngine` over vLLM 0.26 to 0.32. Make it with `load`.

    Log-probs are of the distribution that was drawn from: at the sampling temperature, and renormalised over the
    nucleus where `top_p` < 1 (the torch engine gives them before the cut; train with `top_p` = 1).
    """

    tokenizer: TokenizerLike
    settings: VllmSettings
    client: VllmClient
    sender: Any = None
    """Takes a model and sends its weights: a `vllm_transfer.Sender`."""
    version: int = 0
    _unfit: str = ""
    """Why no request may be answered: the weights are not the trainer's. Empty: they are."""
    _asleep: int = 0
    _adapter: Any = None
    _closed: bool = False
    _runs: dict[str, _Run] = field(default_factory=dict)
    _names: Any = field(default_factory=lambda: itertools.count(1))
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    """Requests may begin, and finished ones be handed out; closed while weights change."""
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", max_batch: int = 64, **options: Any) -> "VllmEngine":
        """Start vLLM on the model in `folder`: half a minute on a CPU. `options`: see `VllmSettings`.

        Raises:
            VllmVersionError: vLLM is missing, or of a release this code does not know.
            EngineError: vLLM did not start; its own words are on the standard error.
            ModelError: the folder is no model folder, or has no tokenizer.
        """
        from aem_agent.engines.vllm_start import start

        settings = VllmSettings.of(Path(folder), device, max_batch, options)
        return start(settings)

    @classmethod
    def checked(cls, folder: Path | None, *, device: str, max_batch: int, **options: Any) -> None:
        """What can be told before `load`, at once: raises as it does. `folder` is None where it has yet to be made."""
        VllmSettings.check(options)
        compat.release()
        if folder is not None:
            VllmSettings.of(folder, device, max_batch, options)

    def __post_init__(self) -> None:
        self._open.set()
        self._idle.set()

    @property
    def max_positions(self) -> int:
        """Tokens that prompt and response may have together."""
        return self.settings.max_model_len

    async def generate(self, request: GenerateRequest) -> Response:
        """Draw one response; cancelled, vLLM drops the request.

        Raises `ContextOverflowError` when prompt and response exceed the model's positions, `EngineError` for all
        else.
        """
        if self._closed:
            raise EngineError(CLOSED)
        check_request(request, self.settings)
        versions, answer = await self.client.run(self._draw(request))
        return response(request, answer, versions, self.tokenizer)

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        """Send new weights, forget what was computed with the old, bump `version`, and assert log-prob parity.

        `state` is a language model of the folder's architecture, or a state dict under its or transformers' names.
        Raises `WeightsMismatchError` before anything is changed, `WeightParityError` after.
        """
        from aem_agent.engines import vllm_transfer as transfer

        if self._closed:
            raise EngineError(CLOSED)
        if self._asleep:
            raise EngineError("the engine sleeps: wake() it before loading weights")
        if self.settings.lora_rank:
            raise EngineError("an engine for adapters keeps its base weights: load_adapter() is what it takes")
        model = transfer.as_model(state, self.settings.folder)
        await self.client.run(self._change(model, running, send=True))

    async def load_adapter(self, folder: Path | None, *, model: Any = None, running: Running = "wait") -> None:
        """Draw through the LoRA adapter in `folder` from now on (None: through none), and bump `version`.

        `model`: the language model with that adapter, for the parity check; without it nothing is compared. Needs the
        option `lora_rank`. Raises `WeightParityError`, `EngineError`.
        """
        if self._closed:
            raise EngineError(CLOSED)
        if not self.settings.lora_rank:
            raise EngineError("load the engine with lora_rank=…, the largest rank of adapters to come")
        number = next(self._names)
        adapter = compat.adapter_request(f"adapter-{number}", number, str(folder)) if folder else None
        if adapter is not None:
            await self.client.run(self._take(adapter))
        await self.client.run(self._change(model, running, adapter=adapter, send=False))

    async def sleep(self, level: int = 1) -> None:
        """Give the GPU's memory back after requests in flight have finished: 1 keeps weights in main memory, 2
        discards them, and `load_weights` must follow `wake`. Raises `EngineError` where vLLM cannot."""
        self._assert_can_sleep(level)
        await self.client.run(self._sleep(level))

    async def wake(self) -> None:
        """Take the memory back."""
        if self._closed:
            raise EngineError(CLOSED)
        await self.client.run(self._wake())

    async def aclose(self) -> None:
        """Finish what runs, refuse what comes, and end vLLM's processes."""
        if self._closed:
            return
        self._closed = True
        await self.client.thread.run(self._finished())
        await self.client.close()

    # what follows runs in the engine's own loop

    async def _draw(self, request: GenerateRequest) -> tuple[Versions, compat.Answer]:
        await self._opened()
        self._assert_fit()
        name = f"r{next(self._names)}"
        params = compat.sampling_params(request.sampling, request.seed, self.tokenizer.eos_token_id)
        self._runs[name] = run = _Run(self.version, [(0, self.version)])
        self._idle.clear()
        try:
            answer = await self.client.ask(request.prompt_token_ids, params, name, self._adapter)
        finally:
            del self._runs[name]
            if not self._runs:
                self._idle.set()
        if run.began != self.version:
            await self._opened()  # weights that fail the check must not answer
            self._assert_fit()
        return tuple(run.versions), answer

    async def _opened(self) -> None:
        while not self._open.is_set():  # the next update may have begun before this coroutine goes on
            await self._open.wait()

    async def _change(self, model: Any, running: Running, *, send: bool, adapter: Any = None) -> None:
        """Replace the weights, or the adapter, under a paused scheduler; then compare."""
        async with self._changing:
            self._open.clear()
            try:
                if running == "wait":
                    await self._idle.wait()
                await self.client.llm.pause_generation(mode=running, clear_cache=True)
                self._unfit = "a weight update did not end: load weights again"
                if send:
                    await self._mark()
                    await self._send(model)
                    await self._assert_forgotten()
                else:
                    await self._swap(adapter)
                self.version += 1
                await self.client.llm.resume_generation()
                if model is not None:
                    await self._compare(model, self.sender.sent if send else {})
                self._unfit = ""
            except BaseException as error:
                await self._drop(error)
                if isinstance(error, AgentError | asyncio.CancelledError) or not isinstance(error, Exception):
                    raise
                raise failure(error) from error
            finally:
                self._open.set()

    async def _send(self, model: Any) -> None:
        """In a thread. Cancelled, it still waits for that: two updates at once would leave neither's weights."""
        sending = asyncio.get_running_loop().run_in_executor(None, self.sender, model)
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait([sending])
            raise

    async def _mark(self) -> None:
        """Note where in each running response the next version begins."""
        counts = await compat.generated(self.client.llm) if self._runs else {}
        for name, run in self._runs.items():
            first = (counts.get(name, 0), self.version + 1)
            run.versions = [*run.versions, first] if first[0] else [first]

    async def _assert_forgotten(self) -> None:
        if await self.client.llm.reset_prefix_cache() is False:
            raise EngineError("vLLM kept keys and values of the old weights: it would sample from neither policy")

    async def _take(self, adapter: Any) -> None:
        """Have vLLM load an adapter that nothing uses yet: one that is broken changes nothing."""
        try:
            taken = await self.client.llm.add_lora(adapter)
        except Exception as error:
            raise failure(error) from error
        if not taken:
            raise EngineError(f"vLLM did not take the adapter {adapter.lora_path!r}")

    async def _swap(self, adapter: Any) -> None:
        """Requests in flight keep the adapter that they began with, and their version."""
        old, self._adapter = self._adapter, adapter
        if old is not None and not self._runs:
            await self.client.llm.remove_lora(old.lora_int_id)

    async def _compare(self, model: Any, sent: dict[str, vllm_digest.Digest]) -> None:
        from aem_agent.engines import vllm_transfer as transfer

        ids, new = transfer.probe(model, self.settings.max_model_len)
        name = f"probe{next(self._names)}"
        found = await self.client.ask(ids, compat.probe_params(new), name, self._adapter)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, transfer.assert_parity, model, ids, found, self.settings.torch_dtype)
        if sent and self.settings.tensor_parallel == 1:
            question = vllm_digest.asked(sent, self.settings.torch_dtype)
            vllm_digest.assert_arrived(sent, await compat.told(self.client.llm, question))

    async def _drop(self, error: BaseException) -> None:
        """After a failed update: what runs would be answered by neither policy."""
        if self._unfit:
            self._unfit = f"the last weight update failed ({type(error).__name__}): load weights again"
        if self.client.dead:
            return
        try:
            if self._unfit:  # else nothing was changed
                await self.client.llm.abort(list(self._runs))
            await self.client.llm.resume_generation()
        except Exception:  # the engine is dead: requests in flight have failed already
            return

    def _assert_fit(self) -> None:
        if self._closed:
            raise EngineError(CLOSED)
        if self._asleep:
            raise EngineError("the engine sleeps: wake() it first")
        if self._unfit:
            raise EngineError(f"no request can be answered: {self._unfit}")

    def _assert_can_sleep(self, level: int) -> None:
        if self._closed:
            raise EngineError(CLOSED)
        if level not in (1, 2):
            raise EngineError(f"sleep level {level} is none: 1 keeps the weights in main memory, 2 discards them")
        if self.settings.device == "cpu":
            raise EngineError("vLLM does not sleep on CPUs: it would report success and free nothing")
        if level == 2 and self.settings.lora_rank:
            raise EngineError("an engine for adapters cannot get its base weights back: sleep at level 1")
        if not self.settings.sleep:
            raise EngineError("load the engine with sleep=True: vLLM must know beforehand")

    async def _sleep(self, level: int) -> None:
        async with self._changing:
            self._open.clear()
            try:
                await self._idle.wait()
                await self.client.llm.sleep(level)
                self._asleep = level
                if level == 2:
                    self._unfit = "sleep level 2 discarded the weights: load_weights() after wake()"
            finally:
                self._open.set()

    async def _wake(self) -> None:
        async with self._changing:
            if self._asleep:
                await self.client.llm.wake_up()
                await self.client.llm.resume_generation()
                self._asleep = 0

    async def _finished(self) -> None:
        await self._idle.wait()

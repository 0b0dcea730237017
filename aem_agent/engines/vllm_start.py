"""Starts vLLM for a `VllmEngine`: environment, arguments, thread, processes, and the way back if it fails."""

import os
from typing import Any

from aem_agent.engines import vllm_compat as compat
from aem_agent.engines.loop_thread import LoopThread
from aem_agent.engines.vllm_client import VllmClient
from aem_agent.engines.vllm_engine import VllmEngine
from aem_agent.engines.vllm_room import Room
from aem_agent.engines.vllm_settings import VllmSettings
from aem_agent.engines.vllm_transfer import Sender, backend, choose
from aem_agent.model.interface import load_tokenizer
from aem_agent.types import EngineError


def start(settings: VllmSettings) -> VllmEngine:
    """A running engine; see `VllmEngine.load` for what is raised."""
    release = compat.release()
    tokenizer = load_tokenizer(settings.folder)
    transport = choose(settings.weights, settings.device, settings.tensor_parallel, release)
    if transport == "ipc":
        os.environ.setdefault("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # CUDA handles travel as pickles
    compat.prepare(settings.device)
    args = compat.engine_args(settings.arguments(os.environ), backend=backend(transport))
    room = Room()
    thread = LoopThread("vllm")

    def abandon(llm: Any) -> None:
        compat.stop(llm)
        room.close()

    try:
        llm = thread.wait(_started(args, str(room.folder)), abandoned=abandon)
    except Exception as error:
        thread.stop()
        room.close()
        if isinstance(error, compat.VllmVersionError):
            raise
        raise EngineError(
            f"vLLM did not start ({type(error).__name__}: {str(error)[:300]}); its own account is above, "
            "more of it with VLLM_LOGGING_LEVEL=INFO"
        ) from error
    client = VllmClient(llm, thread, room)
    thread.wait(client.watch())
    sender = Sender(transport, client.rpc, settings.torch_dtype, settings.tensor_parallel)
    return VllmEngine(tokenizer, settings, client, sender)


async def _started(args: Any, room: str) -> Any:
    return compat.start(args, room)

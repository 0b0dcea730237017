"""The trainer's side of a weight update of vLLM: checks, transport, and the comparison afterwards.

Transports, all through vLLM's weight-transfer interface:

- `memory` (any device): chunks of safetensors in memory of this process that the workers map. Linux only.
- `ipc`: trainer and engine on the same GPU, vLLM ≥ 0.27. Handles travel pickled over vLLM's own local sockets.
- `nccl`: trainer and engine on different GPUs, vLLM ≥ 0.28.

`memory` is what the tests run. `ipc` and `nccl` were written and reviewed against vLLM's sources and have not been run
on a GPU.

Two checks follow an update, whatever the transport; both end in `WeightParityError`. A probe compares log-probs: to
1e-4 nats in float32, to 0.1 in half precision, where a step of training may be smaller. And vLLM's worker tells digests
of the weights that it computes with (`vllm_digest.py`), which must be those of the tensors sent, exactly. With several
devices to a model (`tensor_parallel`), quantised weights, or tensors that vLLM renames in ways not known here, the
probe alone compares. What neither sees in half precision is a trainer that exports other weights than its own.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn

from aem_agent.engines import vllm_compat as compat
from aem_agent.engines.torch_weights import PARITY_TOLERANCE, PARITY_TOLERANCE_HALF
from aem_agent.engines.vllm_digest import Digest, digest
from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import LanguageModel, WeightsMismatchError, read_config
from aem_agent.model.weights import import_weights
from aem_agent.types import EngineError, WeightParityError

Transport = Literal["auto", "memory", "ipc", "nccl"]

SINCE: dict[str, tuple[int, int]] = {"memory": (0, 26), "ipc": (0, 27), "nccl": (0, 28)}
"""First release that sends weights this way."""

CHUNK_BYTES = 256 << 20
"""Weights that are copied at a time."""

PROBE_TOKENS = 16
"""Prompt of the parity probe."""

PROBE_NEW_TOKENS = 4
"""Tokens that a probe draws, so that decoding is compared as well."""


def choose(transport: Transport, device: str, parallel: int, release: tuple[int, int]) -> str:
    """The transport that `auto` means here; raises `EngineError` for one that cannot work."""
    if transport == "auto":
        return "ipc" if device != "cpu" and parallel == 1 and release >= SINCE["ipc"] else "memory"
    if transport not in SINCE:
        raise EngineError(f"unknown weight transport {transport!r}; known: auto, {', '.join(SINCE)}")
    if transport != "memory" and device == "cpu":
        raise EngineError(f"weight transport {transport!r} needs GPUs: use 'memory'")
    if release < SINCE[transport]:
        raise EngineError(f"weight transport {transport!r} needs vLLM {'.'.join(map(str, SINCE[transport]))} or newer")
    return transport


def backend(transport: str) -> str:
    """vLLM's name of a transport."""
    return compat.BACKEND if transport == "memory" else transport


def as_model(state: Any, folder: Path) -> LanguageModel:
    """The model whose weights are to be sent: `state` itself, or one made around a state dict.

    A state dict has the decoder's own names or transformers'. Raises `WeightsMismatchError`, before anything is sent,
    for weights of another architecture than the folder's.
    """
    config = DecoderConfig.from_json(read_config(folder))
    if isinstance(state, nn.Module) and hasattr(state, "export"):
        model = cast(LanguageModel, state)
    elif config is None or not isinstance(state, Mapping):
        raise EngineError(f"cannot load weights from a {type(state).__name__}: hand over the language model itself")
    else:
        model = _around(state, config)
    if config is not None:
        _assert_shapes(model, config)
    return model


def _around(state: Mapping[str, Tensor], config: DecoderConfig) -> LanguageModel:
    model = Decoder(config, device="meta")
    device = next(iter(state.values())).device if state else torch.device("cpu")
    if state.keys() == model.state_dict().keys():
        try:
            model.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise WeightsMismatchError(f"weights of another architecture: {error}") from None
        model.rope = torch.empty_like(model.rope, device=device)
    else:
        model = model.to_empty(device=device)
        import_weights(model, state)
    model.reset_buffers()
    return cast(LanguageModel, model.eval())


def _assert_shapes(model: LanguageModel, config: DecoderConfig) -> None:
    want = {name: tuple(weight.shape) for name, weight in Decoder(config, device="meta").export()}
    given = {name: tuple(weight.shape) for name, weight in model.export()}
    odd = sorted(name for name in want.keys() | given.keys() if want.get(name) != given.get(name))
    if odd:
        raise WeightsMismatchError(f"weights of another architecture than the engine's: {', '.join(odd[:3])} …")


Rpc = Callable[[str, Mapping[str, Any] | None], None]
"""One call of vLLM's control plane (init, start, update, finish), waited for; not to be made in the engine's loop."""


class Sender:
    """Sends weights to a running engine; not in the engine's event loop. `parallel`: its workers."""

    def __init__(self, transport: str, rpc: Rpc, dtype: torch.dtype, parallel: int) -> None:
        self.transport = transport
        self._rpc = rpc
        self._dtype = dtype
        self._parallel = parallel
        self._trainer: Any = None
        self._source: Any = None
        self.sent: dict[str, Digest] = {}
        """What was sent last, by transformers' names; see `vllm_digest`."""

    def __call__(self, model: LanguageModel) -> None:
        """Replace the engine's weights by `model`'s."""
        self.sent = {}
        if self.transport != "memory":
            self._send_from_gpu(model)
            return
        self._rpc("start", None)
        try:
            for chunk in chunks(self._noted(model), self._dtype, CHUNK_BYTES):
                with lent(save(chunk)) as path:
                    self._rpc("update", {"path": path})
        finally:
            self._rpc("finish", None)  # after an error too, or vLLM would refuse the next update as the second at once

    def _noted(self, model: LanguageModel) -> Iterator[tuple[str, Tensor]]:
        """The weights as they are sent; what they are is written down as they go."""
        for name, weight in model.export():
            piece = whole(weight).detach().to(self._dtype)
            self.sent[name] = digest(piece, self._dtype)
            yield name, piece

    def _send_from_gpu(self, model: LanguageModel) -> None:
        if model.device.type == "cpu":
            raise EngineError(
                f"weight transport {self.transport!r} sends from a GPU, but the weights are on a CPU: "
                "load the engine with weights='memory'"
            )
        if self._trainer is None:
            self._source = export_source(self._dtype, self._noted)
            self._source.model = model
            self._trainer = self._connect()
        self._source.model = model
        self._trainer.send_weights()

    def _connect(self) -> Any:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

        if self.transport == "ipc":
            from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

            info: Any = IPCTrainerInitInfo(rank=0, packed=True)
        else:
            from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

            info = NCCLTrainerInitInfo(
                rank=0, master_address="127.0.0.1", master_port=_free_port(), world_size=1 + self._parallel
            )
        client = ControlPlane(self._rpc)
        return WeightTransferTrainerFactory.trainer_init(init_info=info, client=client, source=self._source)


class ControlPlane:
    """vLLM's `VLLMWeightSyncClient` for an engine of this process."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._rpc("init", init_info)

    def start_weight_update(self) -> None:
        self._rpc("start", None)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """CUDA handles hold classes, which only a pickle carries; vLLM opens it because the engine was started so."""
        info = dict(update_info)
        handles = info.pop("ipc_handles", None)
        if handles is not None:
            import base64
            import pickle

            info["ipc_handles_pickled"] = base64.b64encode(pickle.dumps(handles)).decode()
        self._rpc("update", info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._rpc("finish", None)


def export_source(dtype: torch.dtype, pieces: Callable[[LanguageModel], Iterator[tuple[str, Tensor]]]) -> Any:
    """vLLM's `WeightSource` over a model's `pieces`, in the engine's precision; set its `model` before use."""
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    class Export(WeightSource):
        model: LanguageModel

        def metadata(self) -> list[Any]:
            return [ParamMeta(name, dtype, tuple(weight.shape)) for name, weight in self.model.export()]

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            return pieces(self.model)

    return Export()


def whole(weight: Tensor) -> Tensor:
    """All of a weight of which FSDP keeps a part here; a collective then."""
    gather = getattr(weight, "full_tensor", None)
    return cast(Tensor, gather()) if callable(gather) else weight


def chunks(weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype, most: int) -> Iterator[dict[str, Tensor]]:
    """Weights in main memory, about `most` bytes at a time."""
    chunk: dict[str, Tensor] = {}
    size = 0
    for name, weight in weights:
        piece = whole(weight).detach().to(device="cpu", dtype=dtype).contiguous()
        chunk[name], size = piece, size + piece.nbytes
        if size >= most:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk


@contextmanager
def lent(data: bytes) -> Iterator[str]:
    """A path under which processes of the same user read `data` for as long as the context lasts and this process
    lives: nothing is left behind even by a kill."""
    handle = os.memfd_create("aem-weights")
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(data)
        yield f"/proc/{os.getpid()}/fd/{handle}"
    finally:
        os.close(handle)


def probe(model: LanguageModel, positions: int, longest: int = PROBE_TOKENS) -> tuple[list[int], int]:
    """Token ids of a parity probe, and how many to draw after them; `positions`: what the engine takes (2 or more)."""
    positions = min(positions, model.max_positions)
    new = min(PROBE_NEW_TOKENS, positions // 2)
    return [(7 * i + 3) % model.vocab_size for i in range(min(longest, positions - new))], new


@torch.no_grad()
def assert_parity(model: LanguageModel, prompt: list[int], found: compat.Answer, dtype: torch.dtype) -> None:
    """Compare the engine's answer to the probe with the trainer's packed forward.

    Every log-prob that the engine told is compared: the likeliest tokens at each position of the prompt, and those it
    drew greedily. Raises `WeightParityError`.
    """
    ids = torch.tensor([*prompt, *found.token_ids], device=model.device)
    logits = model.head(model.hidden(ids, torch.tensor([0, len(ids)], device=model.device)))
    want = logits.float().log_softmax(-1).cpu()
    told = [(i, t, logprob) for i, at in enumerate(found.prompt) for t, logprob in at.items()]
    told += [(len(prompt) - 1 + i, t, x) for i, (t, x) in enumerate(zip(found.token_ids, found.logprobs))]
    if len(found.prompt) != len(prompt) - 1 or len(found.logprobs) != len(found.token_ids):
        raise WeightParityError("the engine gave no log-probs of the probe: its weights cannot be trusted")
    worst = max(abs(float(want[i, token]) - logprob) for i, token, logprob in told)
    single = dtype == next(model.parameters()).dtype == torch.float32
    limit = PARITY_TOLERANCE if single else PARITY_TOLERANCE_HALF
    if not worst <= limit:
        raise WeightParityError(
            f"log-probs of trainer and vLLM differ by {worst:.2g} nats (allowed {limit:.0e}) after a sync: "
            "the engine answers no request before weights are loaded that agree"
        )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

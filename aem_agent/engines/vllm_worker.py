"""What runs inside vLLM's worker processes: a weight transfer that needs no GPU, what the weights then are, and an end
when their owner ends.

vLLM imports this module in each worker because the engine names `WorkerExtension`. Its weight update goes through
vLLM's own life cycle (start, update in chunks, finish) and layerwise reloading; only the transport is ours: safetensors
in memory that the trainer's process lends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aem_agent.engines import vllm_watch
from aem_agent.engines.vllm_compat import BACKEND


class _Extension:
    """What vLLM adds to its workers; the control plane calls it by name."""

    def aem_told(self, question: str) -> str:
        """Which weights this worker computes with: see `vllm_digest.told`."""
        from aem_agent.engines.vllm_digest import told

        worker: Any = self
        return told(worker.model_runner.get_model(), question)


def __getattr__(name: str) -> Any:
    """`WorkerExtension`, for which vLLM asks in each worker: the moment to join in, as in `vllm_watch.py`."""
    if name != "WorkerExtension":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if vllm_watch.join():
        register()
    return _Extension


def register() -> None:
    """Make the transport known to vLLM in this process."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, _transport())


def _transport() -> Any:
    import torch
    from vllm.distributed.weight_transfer.base import (
        WeightTransferEngine,
        WeightTransferInitInfo,
        WeightTransferUpdateInfo,
    )
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    @dataclass
    class Init(WeightTransferInitInfo):
        """Nothing is agreed beforehand."""

    @dataclass
    class Update(WeightTransferUpdateInfo):
        """One chunk."""

        path: str
        """A safetensors file under transformers' names."""

    class LentMemory(WeightTransferEngine[Init, Update]):
        init_info_cls = Init
        update_info_cls = Update

        def init_transfer_engine(self, init_info: Init) -> None: ...

        def start_weight_update(self) -> None:
            initialize_layerwise_reload(self.model)

        def update_weights(self, update_info: dict[str, Any]) -> None:
            """vLLM's own synchronises an accelerator afterwards, which a CPU has not."""
            self.receive_weights(self.parse_update_info(update_info))
            if self.device.type != "cpu":
                torch.accelerator.synchronize()

        def receive_weights(self, update_info: Update) -> None:
            self.model.load_weights(_tensors(update_info.path))

        def finish_weight_update(self) -> None:
            finalize_layerwise_reload(self.model, self.model_config)
            repack_heads(self.model)

        def shutdown(self) -> None: ...

        @staticmethod
        def trainer_send_weights(iterator: Any, trainer_args: Any) -> None:
            """0.26 asks for it; the trainer's side is `vllm_transfer.py`."""
            raise NotImplementedError

    return LentMemory


def _tensors(path: str) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            yield name, opened.get_tensor(name)


def repack_heads(model: Any) -> None:
    """Renew the copies of weights that vLLM's CPU kernels keep of heads and embeddings.

    On CPUs a layer computes with a packed copy made when its weights were loaded. A tied head has no weights of its
    own in a checkpoint, so reloading skips it: the embedding is new, the head's packed copy old, and nothing says so.
    """
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if (
            hasattr(module, "cpu_linear")
            and hasattr(module, "org_vocab_size")
            and weight is not None
            and weight.numel()
        ):
            module.quant_method.process_weights_after_loading(module)

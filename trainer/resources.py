"""What a step of training took: peak memory, and the floating-point operations done in a second."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from aem_agent.model.config import DecoderConfig
from aem_agent.model.interface import LanguageModel
from aem_agent.model.lora_layers import adapter_ranks
from trainer.batch import Batch
from trainer.flops import mfu, peak_flops, step_flops
from trainer.metrics import add_metrics


@contextmanager
def counted_flops(
    model: LanguageModel | nn.Module, batch: Batch, name: str, metrics: dict[str, Tensor], *, backward: bool
) -> Iterator[None]:
    """Add the FLOPs of the pass that `model` makes over `batch` in this block to `metrics[name]`: float64 scalar, which
    waits for no device.

    Shared beginnings of sequences count once, as they are computed; with adapters, only these have gradients of their
    own. Nothing is added where the operations are not known: of other architectures than the project's decoder, and on
    devices without double precision.
    """
    shape, before = getattr(model, "config", None), int(getattr(model, "nodes", 0))
    yield
    nodes = int(getattr(model, "nodes", 0)) - before
    if nodes and isinstance(shape, DecoderConfig) and batch.tokens.device.type != "mps":
        ranks = adapter_ranks(cast(nn.Module, model))
        flops = step_flops(shape, batch.cu_seqlens, batch.targets, backward=backward, nodes=nodes, adapters=ranks)
        add_metrics(metrics, {name: flops})


def speed(phase: str, flops: Tensor | float | None, seconds: float, device: torch.device) -> dict[str, float]:
    """`tflops_<phase>`, 10¹² operations per second, and `mfu_<phase>` where the device's peak is known."""
    if flops is None or seconds <= 0:
        return {}
    found = {f"tflops_{phase}": float(flops) / seconds / 1e12}
    peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    share = mfu(float(flops), seconds, peak)
    return found if share is None else found | {f"mfu_{phase}": share}


def memory(device: torch.device) -> dict[str, float]:
    """Peaks in GB: `memory_process`, resident, since the process began; `memory_cuda`, allocated by torch on `device`
    since the last call."""
    found: dict[str, float] = {}
    try:
        import resource
    except ImportError:  # no such thing on this system
        pass
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        found["memory_process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    if device.type == "cuda":
        found["memory_cuda"] = torch.cuda.max_memory_allocated(device) / 1e9
        torch.cuda.reset_peak_memory_stats(device)
    return found


def step_resources(
    metrics: Mapping[str, Any], seconds: Mapping[str, float], optimiser: torch.optim.Optimizer, device: torch.device
) -> dict[str, float]:
    """What is added to the record of an RL step with these `metrics`: its seconds per phase, and what follows."""
    return {
        "learning_rate": float(optimiser.param_groups[0]["lr"]),
        **speed("update", metrics.get("flops_update"), seconds.get("seconds_update", 0.0), device),
        **speed("score", metrics.get("flops_score"), seconds.get("seconds_score", 0.0), device),
        **memory(device),
        **seconds,
    }

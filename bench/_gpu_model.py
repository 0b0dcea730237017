"""What `gpu.py` measures with: sizes, a model folder of random weights, and a training run opened on it."""

import platform
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.model.tokenizers import train_tokenizer
from trainer.batch import Batch, Packer
from trainer.config import (
    AlgorithmConfig,
    EnvConfig,
    ModelConfig,
    OptimiserConfig,
    RolloutConfig,
    ScaleConfig,
    TrainConfig,
)
from trainer.head import CHUNK
from trainer.memory import estimate
from trainer.progress import Reporter
from trainer.runs import new_run
from trainer.session import RL, Session
from trainer.shapes import PUBLISHED, decoder_shape

VOCABULARY = 151_936
SPARE = 8 * 10**9
"""Bytes of a GPU's memory that are left for what no estimate counts."""


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    shape: DecoderConfig
    sequences: int
    """Of a micro-batch."""
    length: int
    """Tokens of a sequence; the last quarter is its response."""
    micro_batches: int
    """Of an optimiser step."""
    head_tokens: int
    head_width: int
    """Of the hidden states that the head is measured with; its vocabulary is always the full one."""
    rows: int
    """Sequences that are decoded at once."""
    context: int
    """Tokens of their prompts."""
    new: int
    """Tokens drawn for each."""
    turns: int
    """Of an episode."""
    answer: int
    """Tokens of a turn."""
    rounds: int
    """How often everything is measured."""


QWEN = replace(PUBLISHED["Qwen2.5-1.5B-Instruct"], max_positions=4096)
"""1.54 billion parameters."""

FULL = Size(QWEN, 16, 2048, 4, 8192, 1536, 128, 1024, 96, 8, 32, 3)
SMALL = Size(
    replace(QWEN, vocab_size=2048, hidden_size=64, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=160),
    sequences=4,
    length=128,
    micro_batches=2,
    head_tokens=128,
    head_width=32,
    rows=8,
    context=64,
    new=12,
    turns=2,
    answer=4,
    rounds=2,
)


def training(size: Size, folder: Path, device: str, *, recompute: bool) -> TrainConfig:
    """A run as the recipes for one GPU have it, on embedded games: step-wise samples, no warm start."""
    return TrainConfig(
        env=EnvConfig("aem/ALFWorld-v0", kwargs={"size": "small"}),
        model=ModelConfig(path=str(folder), prompt="plain", max_new_tokens=size.answer),
        rollout=RolloutConfig(tasks=16, group_size=8, concurrency=size.rows, max_steps=size.turns),
        algorithm=AlgorithmConfig(estimator="grpo", normalise=False),
        optimiser=OptimiserConfig(
            lr=1e-6, minibatch_responses=10**6, micro_tokens=max(size.sequences * size.length, size.shape.max_positions)
        ),
        scale=ScaleConfig(shard=True, precision="bfloat16", checkpoint_activations=recompute),
        steps=1000,
        device=device,
    )


def suffices(size: Size, config: TrainConfig) -> bool:
    """Whether the device's memory holds all activations of a micro-batch beside everything else."""
    device = torch.device(config.device)
    if device.type != "cuda":
        return True
    needed = sum(estimate(decoder_shape(size.shape), config, head_logits=CHUNK).training.values())
    return needed + SPARE < torch.cuda.get_device_properties(device).total_memory


def write_model(size: Size, folder: Path, texts: list[str]) -> None:
    """Random weights, and a tokenizer whose ids are the first of the vocabulary: what is said is garbage anyway."""
    tokenizer = train_tokenizer("byte-bpe", texts, min(4096, size.shape.vocab_size))
    shape = replace(size.shape, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    Decoder(shape).init_weights(0).bfloat16().save(folder)
    tokenizer.save(folder, shape.max_positions)


def texts_of_games(config: TrainConfig, games: int = 20) -> list[str]:
    """What prompts of the run will show."""
    from trainer import rollouts
    from trainer.export import corpus

    few = replace(config, model=replace(config.model, corpus_games=games))
    return list(corpus(few, rollouts.task_pools(few)))


@contextmanager
def opened(size: Size, folder: Path, device: str, recompute: bool) -> Iterator[Session]:
    """The run, with weights in the engine, ready for its first step of RL."""
    config = training(size, folder / "model", device, recompute=recompute)
    if not suffices(size, config):
        config = training(size, folder / "model", device, recompute=True)
    write_model(size, folder / "model", texts_of_games(config))
    with new_run(config, folder / "run", Reporter(Console(quiet=True))) as session:
        session.begin_stage(RL)
        session.push_weights()
        yield session


def packed(size: Size, micro_batches: int, device: torch.device) -> Batch:
    """Micro-batches of random sequences, no two of which begin alike, each with one response."""
    rng, packer = random.Random(0), Packer()
    prompt = size.length * 3 // 4
    for number in range(size.sequences * micro_batches):
        ids = [rng.randrange(size.shape.vocab_size) for _ in range(size.length)]
        packer.prompt(ids[:prompt], number, join=False)
        packer.response(ids[prompt:], number, number // 8)
    return packer.batch().to(device)


class Watch:
    """Seconds of what a device does, and the memory that it takes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any], rounds: int) -> float:
        """The median of so many rounds, after one that warms up."""
        taken = [self.once(work) for _ in range(rounds + 1)]
        return sorted(taken[1:])[(rounds - 1) // 2]

    def once(self, work: Callable[[], Any]) -> float:
        """Seconds of one call."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def peak_bytes(self, work: Callable[[], Any]) -> int:
        """The most that `work` held at once beyond what was there."""
        if self.device.type != "cuda":
            with Held() as held:
                work()
            return held.most
        torch.cuda.synchronize(self.device)
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before


class Held(TorchDispatchMode):
    """Bytes of the storages that operations have made and that are still there: what CUDA's allocator would tell."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._there: list[tuple[StorageWeakRef, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {id_of(x) for x in (*args, *(kwargs or {}).values()) if isinstance(x, Tensor)}
        self._there = [(ref, size) for ref, size in self._there if not ref.expired()]
        given |= {ref.cdata for ref, _ in self._there}
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, Tensor) and id_of(x) not in given:
                self._there.append((StorageWeakRef(x.untyped_storage()), x.untyped_storage().nbytes()))
        self.most = max(self.most, sum(size for _, size in self._there))
        return out


def id_of(x: Tensor) -> int:
    """The same for all views of one storage."""
    return int(StorageWeakRef(x.untyped_storage()).cdata)

"""A training run that takes about a second, and what it leaves behind."""

import csv
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from safetensors.torch import load_file

from aem_agent.model.interface import load_tokenizer
from trainer.config import TrainConfig
from trainer.export import preset_folder
from trainer.loop import train
from trainer.metrics import read_records
from trainer.overrides import override
from trainer.progress import Reporter
from trainer.rollouts import task_pools
from trainer.runs import load_recipe, new_run, resumed_run

QUICK = (
    "warmstart.steps=4",
    "warmstart.save_every=2",
    "warmstart.games=8",
    "warmstart.tokens_per_step=400",
    "rollout.tasks=2",
    "rollout.group_size=2",
    "rollout.max_steps=5",
    "optimiser.minibatch_responses=8",
    "evaluation.tasks=3",
    "evaluation.max_steps=5",
    "checkpoint.every=2",
    "checkpoint.keep=100",
    "steps=4",
)


def quick(*settings: str) -> TrainConfig:
    """The toy recipe, cut down, with `settings` applied."""
    return override(load_recipe("toy"), [*QUICK, *settings])


def llama_folder(folder: Path) -> Path:
    """A model that is transformers' own, with the toy recipe's words."""
    preset_folder(quick(), folder, task_pools(quick()))  # for its tokenizer
    config = transformers.LlamaConfig(
        vocab_size=load_tokenizer(folder).vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def quiet() -> Reporter:
    return Reporter(Console(quiet=True))


def run(config: TrainConfig, path: Path) -> dict[str, Any]:
    with new_run(config, path, quiet()) as session:
        return train(session)


def resume(path: Path) -> dict[str, Any]:
    with resumed_run(path, quiet(), trust=True) as session:
        return train(session)


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(path / "checkpoints" / "2-0000004" / "model.safetensors")
    return found


def figures(path: Path, kinds: tuple[str, ...] = ("warmstart", "rl", "evaluation")) -> list[dict[str, Any]]:
    records = [r for r in read_records(path / "metrics.jsonl") if r["kind"] in kinds]
    timed = ("seconds_", "env_seconds_", "tokens_per_second", "memory_", "tflops_", "mfu_")
    return [{k: v for k, v in r.items() if not k.startswith(timed)} for r in records]


def assert_same(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    assert all(left[name].equal(right[name]) for name in left)
    assert figures(a) == figures(b)


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV file by its header."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))

"""Trainings of a tiny model by the real TRL, for `test_trl_adapter.py`; and, started by torchrun, one of its processes:

python trl_runs.py MODEL OUT        trains, and leaves what it saw in OUT
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from trainer.adapters.trl import AdapterError, AemGRPOTrainer, AemMixin, responses

__all__ = [
    "AdapterError",
    "AemGRPOTrainer",
    "AemMixin",
    "GRPOTrainer",
    "Modulated",
    "Plain",
    "made",
    "responses",
    "scored",
]

PROMPTS = ["aa ab ac", "ba bb bc", "ca cb", "da db dc dd"]


def odd_share(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [sum(token % 2 for token in ids) / len(ids) for ids in completion_ids]


def scored(trainer: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Entropies and log-probs [B, C] from a plain forward pass of the trainer's present weights."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        logits = trainer.model(input_ids=ids, attention_mask=mask).logits.double() / trainer.temperature
    p = logits.softmax(-1)[:, batch["prompt_ids"].shape[1] - 1 : -1]
    log_p = p.log()
    logprobs = log_p.gather(-1, batch["completion_ids"].unsqueeze(-1)).squeeze(-1)
    return {"entropies": -(p * log_p).sum(-1), "logprobs": logprobs}


class Watched:
    """Keeps every batch, with token entropies [B, C] from a plain forward pass of the weights that sampled it."""

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        kept = {name: value.clone() for name, value in batch.items() if isinstance(value, Tensor)}
        kept |= scored(self, batch)
        self.batches = [*getattr(self, "batches", []), kept]
        return batch


class Plain(Watched, GRPOTrainer):
    pass


class Modulated(Watched, AemGRPOTrainer):
    pass


def made(kind: Any, folder: Path, out: Path, *, options: dict[str, Any] | None = None, **more: Any) -> Any:
    """A trainer of 2 groups of 4 and four steps."""
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "steps_per_generation": 2,
        "max_completion_length": 6,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "temperature": 0.7,
        "logging_steps": 1,
        "seed": 3,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "report_to": [],
        "save_strategy": "no",
    }
    given = {"reward_funcs": odd_share, "train_dataset": Dataset.from_dict({"prompt": PROMPTS})} | more
    return kind(
        model=AutoModelForCausalLM.from_pretrained(folder),
        args=GRPOConfig(**settings | (options or {})),
        processing_class=AutoTokenizer.from_pretrained(folder),
        **given,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[2])
    sizes = {"per_device_train_batch_size": 6, "steps_per_generation": 1, "max_steps": 2, "max_completion_length": 16}
    trainer = made(Modulated, Path(sys.argv[1]), out, options=sizes)
    trainer.train()
    torch.save(trainer.batches, out / f"{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()

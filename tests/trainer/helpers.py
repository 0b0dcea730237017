"""A training run that takes about a second."""

from pathlib import Path
from typing import Any

from rich.console import Console

from trainer.config import TrainConfig
from trainer.loop import train
from trainer.overrides import override
from trainer.progress import Reporter
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


def quiet() -> Reporter:
    return Reporter(Console(quiet=True))


def run(config: TrainConfig, path: Path) -> dict[str, Any]:
    with new_run(config, path, quiet()) as session:
        return train(session)


def resume(path: Path) -> dict[str, Any]:
    with resumed_run(path, quiet()) as session:
        return train(session)

"""What analyses read of a run: its configuration, and its weights with everything needed to speak to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.interface import LanguageModel, load_model, load_tokenizer
from aem_agent.run_folder import RunFolder
from trainer import checkpoints, lora
from trainer.agent import Agent
from trainer.analysis.results import AnalysisError, analysis_folder
from trainer.config import TrainConfig
from trainer.engines import sequence_limit
from trainer.export import export_model
from trainer.overrides import from_json
from trainer.runs import KIND


def run_config(run: Path) -> TrainConfig:
    """The configuration of a training run, which may be going on.

    Raises:
        RunFolderError: no run.
        AnalysisError: no training run.
        ConfigError: one of another version.
    """
    folder = RunFolder.open(run)
    if folder.config.get("kind") != KIND:
        raise AnalysisError(f"{run} is not a training run: give a folder of `aem-train run`")
    config: TrainConfig = from_json(folder.config.get("config"))
    return config


@dataclass(frozen=True)
class Speaker:
    """A run's model, spoken to as in its training, by this process's own engine: it records log-probs and entropies."""

    model: LanguageModel
    engine: TorchEngine
    agent: Agent
    folder: Path
    """Where tokenizer and sizes are from."""


@contextmanager
def speaker(run: Path, config: TrainConfig, weights: Path) -> Iterator[Speaker]:
    """The weights of a model folder, or of a checkpoint of the run.

    Raises:
        AnalysisError: there are none.
        CheckpointError, ModelError: they cannot be read.
        LoraError: a checkpoint of a run that trains adapters, and peft is not installed.
    """
    torch.set_num_threads(config.threads)
    checkpoint = _is_checkpoint(run, weights)
    folder = _first_folder(run, config) if checkpoint else weights
    model = load_model(folder, device=config.device)
    if checkpoint:
        if config.scale.lora_rank:  # adapters are part of a checkpoint; those of a model folder are merged
            lora.adapt(model, config.scale, config.seed)
        _load(model, weights)
    tokenizer = load_tokenizer(folder)
    engine = TorchEngine(model, tokenizer, max_batch=max(256, config.rollout.concurrency), share=True)
    yield Speaker(model, engine, Agent(config, engine, tokenizer, sequence_limit(model, engine), folder), folder)


def model_folder(run: Path, config: TrainConfig, weights: Path) -> Path:
    """`weights` as a model folder: itself, or a checkpoint's weights written to `RUN/analysis/weights/`."""
    if not _is_checkpoint(run, weights):
        return weights
    target = analysis_folder(run, "weights") / checkpoints.load(weights).progress.name
    with speaker(run, config, weights) as loaded:
        checkpoints.write_folder(target, lambda folder: export_model(loaded.model, loaded.agent, loaded.folder, folder))
    return target


def _is_checkpoint(run: Path, weights: Path) -> bool:
    if (weights / "state.json").is_file():
        return True
    if not (weights / "config.json").is_file():
        raise AnalysisError(
            f"{weights} holds no weights: give --weights a model folder ({run}/best, {run}/warmstart), or one of "
            f"{run}/checkpoints"
        )
    return False


def _first_folder(run: Path, config: TrainConfig) -> Path:
    return Path(config.model.path) if config.model.path else run / "init"


def _load(model: LanguageModel, weights: Path) -> None:
    try:
        cast(nn.Module, model).load_state_dict(checkpoints.load(weights).model)
    except RuntimeError as error:
        raise AnalysisError(
            f"{weights} does not fit the run's model ({str(error).splitlines()[0]}): give --weights a model folder"
        ) from error

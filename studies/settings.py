"""What tells runs apart: all settings that act, how they are judged, and the weights that they began from."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import thoughts
from designs import Study

from trainer.config import TrainConfig
from trainer.overrides import to_json

_SILENT = ("description", "seed", "device", "threads", "metrics.", "checkpoint.", "evaluation.")
"""Beginnings of settings that change nothing of a result, or have a column of their own."""
_ACTS = "evaluation.max_steps"


def fingerprint(study: Study, arm: str, seed: int) -> str:
    """Of one run of a study: results of other settings are not mixed with these."""
    judged = {"split": study.split, "tasks": study.tasks, "temperatures": study.temperatures}
    return _hash({**acting(study.config(arm, seed)), **judged, **_of_modules(study.config(arm, seed))})


def start_fingerprint(study: Study, seed: int) -> str:
    """Of a warm start."""
    config = start_config(study, seed)
    return _hash({**acting(config), **_of_modules(config)})


def start_config(study: Study, seed: int) -> TrainConfig:
    """The warm start alone."""
    return replace(study.start_config, seed=seed, steps=0)


def acting(config: TrainConfig) -> dict[str, Any]:
    """Settings by dotted names, those that are null, false or zero left out.

    So that a new setting of the trainer, which is off by default, leaves fingerprints as they are; a default that is
    changed does not.
    """
    found = flat(to_json(config))
    return {key: x for key, x in found.items() if x and (key == _ACTS or not key.startswith(_SILENT))}


def flat(settings: dict[str, Any], under: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{under}{key}.") if isinstance(value, dict) else {f"{under}{key}": value}
    return found


def weights_hash(model: Path) -> str:
    """Of a model folder's weights: pairs must begin from the same."""
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()[:10]


def _of_modules(config: TrainConfig) -> dict[str, Any]:
    """The code of what a start takes from this folder."""
    used = str(config.model.prompt).startswith("thoughts:")
    return {"thoughts": hashlib.sha256(Path(thoughts.__file__).read_bytes()).hexdigest()} if used else {}


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]

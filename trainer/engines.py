"""The engine of a run: which one a recipe names, whether its options can be right, and how it is made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aem_agent.engines import text_engines, token_engines
from aem_agent.engines.fake import FakeTokenEngine
from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.devices import torch_device
from aem_agent.model.interface import LanguageModel
from aem_agent.types import LocalEngine, TokenizerLike
from trainer.config import ConfigError, TrainConfig
from trainer.errors import RecipeError
from trainer.overrides import check_option_types, check_options

KEY = "rollout.engine_options"
GIVEN = ("folder", "device", "max_batch")
"""Arguments of `load` that are the run's: not offered, though `device` and `max_batch` may be given."""


def engine_class(config: TrainConfig) -> Any:
    """The class that `rollout.engine` names, and which takes `rollout.engine_options`.

    An engine may look at its options itself: a classmethod `checked(folder, *, device, max_batch, **options)` raises
    what `load` would raise before it starts anything; `folder` is None where the model is not made yet.

    Raises:
        UnknownPluginError: no such engine.
        RecipeError: one that cannot train, and why.
        ConfigError: an option that it does not take, or of another type.
        EngineError: what the engine says of its options, or of a package that is missing.
    """
    name = config.rollout.engine
    found = _named(name)
    options = dict(config.rollout.engine_options)
    _check_options(found, options)
    if options.get("sleep") is True:
        _check_sleep(config, found)
    if (checked := getattr(found, "checked", None)) is not None:
        folder = Path(config.model.path) if config.model.path else None
        checked(folder, **_with_limits(config, options))
    return found


def _named(name: str) -> Any:
    known = name in token_engines.names()
    offered = ", ".join(n for n in token_engines.names() if n != "fake")
    found: Any = None if not known and name in text_engines.names() else token_engines.get(name)
    if found is None or (hasattr(found, "chat") and not hasattr(found, "generate")):
        raise RecipeError(
            f"rollout.engine={name}: a text engine answers with text, not with the token ids it sampled and their "
            f"log-probs, and without these there is nothing to train on; name a token engine ({offered})"
        )
    if found is FakeTokenEngine:
        raise RecipeError(
            f"rollout.engine={name} has no model, so nothing could be learnt from it; name another ({offered})"
        )
    if not all(hasattr(found, method) for method in ("load", "generate", "load_weights")):
        raise RecipeError(f"rollout.engine={name} is no LocalEngine (aem_agent.types): it lacks what engines must have")
    return found


def _check_options(found: Any, options: Mapping[str, Any]) -> None:
    if "folder" in options:
        raise ConfigError(f"{KEY}.folder is the run's own model: set model.path=DIR")
    check_options(KEY, found.load, options, hidden=GIVEN)
    check_option_types(KEY, found.load, options)
    if (most := options.get("max_batch", 1)) is not None and not (isinstance(most, int) and most >= 1):
        raise ConfigError(f"{KEY}.max_batch must be at least 1, got {most}")
    if isinstance(found, type) and issubclass(found, TorchEngine):
        if "device" in options:
            torch_device(options["device"])
        dtype = getattr(torch, str(options.get("dtype", "float32")), None)
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1):
            raise ConfigError(f"{KEY}.dtype={options['dtype']!r}: choose float32, bfloat16, float16 or float64")


def _check_sleep(config: TrainConfig, found: Any) -> None:
    if not all(hasattr(found, method) for method in ("sleep", "wake")):
        raise RecipeError(f"rollout.engine={config.rollout.engine} cannot sleep: leave {KEY}.sleep out")
    if config.rollout.staleness:
        raise ConfigError(
            f"{KEY}.sleep rests the engine while a step trains, but with "
            f"rollout.staleness={config.rollout.staleness} rollouts go on then: set one of them only"
        )


def _with_limits(config: TrainConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"device": config.device, "max_batch": config.rollout.concurrency, **options}


def load_engine(config: TrainConfig, model: LanguageModel, tokenizer: TokenizerLike, source: Path) -> LocalEngine:
    """The engine of a run that trains `model`, which was loaded from the folder `source`.

    The torch engine samples with the trainer's own module, so that nothing is copied. Where rollouts go on while the
    module is trained it has a copy, and a thread, of its own; so it has where its options ask for another type of
    number or another device. Other engines load the folder; they get the run's weights when they are pushed.

    Raises:
        RecipeError: it does not take the options.
        EngineError, ModelError: it cannot be started.
    """
    options: dict[str, Any] = dict(config.rollout.engine_options)
    engine = engine_class(config)
    if engine is TorchEngine:
        if not config.rollout.staleness and not options.keys() & {"dtype", "device"}:
            return TorchEngine(model, tokenizer, share=True, **{"max_batch": config.rollout.concurrency, **options})
        options = {"deterministic": not config.rollout.staleness, **options}
    try:
        made: LocalEngine = engine.load(source, **_with_limits(config, options))
    except TypeError as error:
        raise RecipeError(f"rollout.engine={config.rollout.engine} does not load with {KEY}: {error}") from error
    return made


def sequence_limit(model: LanguageModel, engine: LocalEngine) -> int:
    """Tokens that prompt and response may have together; raises `RecipeError` where the engine does not say."""
    limit: Any = engine.max_positions
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 2:
        raise RecipeError(
            f"{type(engine).__name__}.max_positions is {limit!r}: the engine must say how many tokens prompt and "
            "response may have together (aem_agent.types.LocalEngine)"
        )
    return min(model.max_positions, limit)

"""From the trainer's weights to the engine's."""

import asyncio

from aem_agent.model.interface import LanguageModel
from aem_agent.types import TokenEngine


def push(model: LanguageModel, engine: TokenEngine) -> int:
    """Hand the engine the newest weights and return its new version.

    The engine asserts that its log-probs equal the trainer's afterwards; besides, the first forward pass of every
    update is compared with what the sampler recorded (`trainer.update`): stale weights cannot go unnoticed for a step.
    An engine that shares the module copies nothing.
    """
    asyncio.run(engine.load_weights(model))
    return engine.version

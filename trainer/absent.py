"""In place of an engine, on processes that play nothing (`scale.rollouts=first`): it only counts versions."""

from pathlib import Path
from typing import Any

from aem_agent.model.interface import LanguageModel
from aem_agent.types import EngineError, GenerateRequest, Response, Running, TokenEngine, TokenizerLike
from trainer.config import TrainConfig
from trainer.engines import load_engine


class AbsentEngine:
    """A `TokenEngine` that has no model."""

    model = None

    def __init__(self) -> None:
        self.version = 0

    async def generate(self, request: GenerateRequest) -> Response:
        """Never called; raises `EngineError`."""
        raise EngineError("this process has no engine: the first one plays (scale.rollouts=first)")

    async def load_weights(self, state: Any, *, running: Running = "wait") -> None:
        """As the first process's engine counts."""
        self.version += 1

    async def sleep(self, level: int = 1) -> None: ...

    async def wake(self) -> None: ...

    async def aclose(self) -> None: ...


def engine_or_none(
    config: TrainConfig, model: LanguageModel | None, tokenizer: TokenizerLike, source: Path
) -> TokenEngine:
    """The engine of a process that plays with `model`; see `trainer.engines.load_engine`."""
    return AbsentEngine() if model is None else load_engine(config, model, tokenizer, source)

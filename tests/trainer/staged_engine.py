"""Engines with one fault each, for `rollout.engine=staged_engine:Class`."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.types import EngineError, GenerateRequest, Response


class Plain(TorchEngine):
    """The torch engine, but not the trainer's own module."""


class Forgetful(TorchEngine):
    """Says of every response that it comes from the first weights."""

    async def generate(self, request: GenerateRequest) -> Response:
        return replace(await super().generate(request), policy_versions=((0, 0),))


class WithoutEntropies(TorchEngine):
    """As vLLM: log-probs, no entropies."""

    async def generate(self, request: GenerateRequest) -> Response:
        return replace(await super().generate(request), entropies=None)


class Shifted(WithoutEntropies):
    """Records other log-probs than it samples with."""

    async def generate(self, request: GenerateRequest) -> Response:
        response = await super().generate(request)
        assert response.logprobs is not None
        return replace(response, logprobs=tuple(p - 0.01 for p in response.logprobs))


class WithoutLogprobs(TorchEngine):
    """Token ids and nothing else."""

    async def generate(self, request: GenerateRequest) -> Response:
        return replace(await super().generate(request), entropies=None, logprobs=None)


class WrongLater(TorchEngine):
    """Records other log-probs from its second weights on."""

    async def generate(self, request: GenerateRequest) -> Response:
        response = await super().generate(request)
        off = 0.5 if self.version >= 2 else 0.0
        return replace(response, logprobs=tuple(p - off for p in response.logprobs or ()))


class OtherVocabulary(TorchEngine):
    """Says ids that the model does not have."""

    async def generate(self, request: GenerateRequest) -> Response:
        response = await super().generate(request)
        return replace(response, token_ids=(10**6, *response.token_ids[1:]))


class Overflowing(TorchEngine):
    """Records no numbers, but where a probe would see it."""

    async def generate(self, request: GenerateRequest) -> Response:
        response = await super().generate(request)
        wrong = (float("nan"),) * len(response.token_ids)
        return replace(response, logprobs=wrong) if request.sampling.entropies else response


class Unlimited(TorchEngine):
    """Does not say how long a sequence may be."""

    max_positions = None  # type: ignore[assignment]


class Sleeper(TorchEngine):
    """Can sleep, and writes down what it does."""

    done: ClassVar[list[str]] = []

    @classmethod
    def load(cls, folder: str | Path, *, sleep: bool = False, **options: Any) -> "TorchEngine":
        return super().load(folder, **options)

    async def sleep(self, level: int = 1) -> None:
        self.done.append(f"sleep {level}")

    async def wake(self) -> None:
        self.done.append("wake")

    async def load_weights(self, state: Any, **options: Any) -> None:
        self.done.append("load")
        await super().load_weights(state, **options)


class Choosy(TorchEngine):
    """Looks at its options before it is made."""

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", max_batch: int = 1, **options: Any) -> "TorchEngine":
        raise AssertionError("nothing may be started")

    @classmethod
    def checked(cls, folder: Path | None, *, device: str, max_batch: int, **options: Any) -> None:
        raise EngineError(f"folder {folder}, device {device}, max_batch {max_batch}, options {options}")


class Strict(TorchEngine):
    """Takes any option, until it is loaded."""

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", max_batch: int = 1, **options: Any) -> "TorchEngine":
        return super().load(folder, device=device, max_batch=max_batch, **options)


class Chat:
    """A text engine."""

    async def chat(self, *arguments: Any) -> Response:
        raise NotImplementedError


class Nothing:
    """No engine at all."""

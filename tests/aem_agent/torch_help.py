"""What tests of the torch engine share: small models, requests, and what is compared with a full forward."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.interface import LanguageModel, load_model
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.model.sampler import Row
from aem_agent.types import GenerateRequest, Response, Sampling

WORDS = "go to desk 1 take mug 2 from shelf 3 open drawer look . , stop"


def make(folder: Path, **changes: Any) -> Path:
    return make_preset(
        PresetConfig(**({"init_std": 0.2, "max_positions": 64, "layers": 2} | changes)), folder, 0, [WORDS]
    )


def asked(count: int, new: int = 5) -> list[GenerateRequest]:
    return [
        GenerateRequest(tuple(range(7, 9 + i % 6)), Sampling(max_new_tokens=new, entropies=True), 100 - i)
        for i in range(count)
    ]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def joins_of(engine: TorchEngine) -> list[list[int]]:
    """The seeds of those that join together, from now on."""
    joined: list[list[int]] = []
    inner = engine._sampler.admit

    def noted(requests: Sequence[GenerateRequest], version: int = 0) -> list[Row]:
        joined.append([r.seed for r in requests])
        return inner(requests, version)

    engine._sampler.admit = noted  # type: ignore[method-assign]
    return joined


def fed_of(engine: TorchEngine) -> list[int]:
    """How many rows each decode step computes, from now on."""
    rows: list[int] = []
    inner = engine.model.step

    def noted(tokens: torch.Tensor, cache: Any) -> torch.Tensor:
        rows.append(len(tokens))
        return inner(tokens, cache)

    engine.model.step = noted  # type: ignore[method-assign]
    return rows


@torch.no_grad()
def assert_true_logprobs(model: LanguageModel, request: GenerateRequest, said: Response, start: int = 0) -> None:
    """From token `start` on they equal a full forward."""
    tokens = torch.tensor([*request.prompt_token_ids, *said.token_ids])
    logp = model.head(model.hidden(tokens, torch.tensor([0, len(tokens)]))).log_softmax(-1)
    first = len(request.prompt_token_ids) - 1
    want = [float(logp[first + i, t]) for i, t in enumerate(said.token_ids)]
    assert said.logprobs is not None
    assert said.logprobs[start:] == pytest.approx(want[start:], abs=1e-5)


def changed(folder: Path, by: float = 0.2) -> LanguageModel:
    """Other weights of the same shape."""
    model = load_model(folder)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    return model


class Endless:
    """A tokenizer without an end: answers are as long as they may be."""

    eos_token_id = -1

    def encode(self, text: str) -> list[int]:
        return [7]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


def endless(folder: Path, **options: Any) -> TorchEngine:
    return TorchEngine(load_model(folder), Endless(), **options)


async def all_of(engine: TorchEngine, requests: list[GenerateRequest]) -> list[Response]:
    return list(await asyncio.gather(*(engine.generate(r) for r in requests)))


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)

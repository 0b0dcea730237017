"""What tests of the vLLM engine share: starting one, asking it, other weights."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import torch

from aem_agent.model.interface import LanguageModel, load_model
from aem_agent.types import GenerateRequest, Response, Sampling, TokenEngine

PROMPTS = ((7, 8, 9), (10,), tuple(range(20, 60)), (300, 301, 5))


def load(folder: Path, **options: Any) -> Any:
    """An engine on whatever the installed vLLM is for, in single precision; several fit on one GPU."""
    from aem_agent.engines import vllm_compat
    from aem_agent.engines.vllm_engine import VllmEngine

    options = {"device": vllm_compat.built_for(), "dtype": "float32", "memory_utilization": 0.15} | options
    return VllmEngine.load(folder, **options)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def requests(n: int = 8, **sampling: Any) -> list[GenerateRequest]:
    settings = Sampling(**({"max_new_tokens": 12} | sampling))
    return [GenerateRequest(PROMPTS[i % len(PROMPTS)], settings, i) for i in range(n)]


async def answers(engine: TokenEngine, asked: Sequence[GenerateRequest]) -> list[Response]:
    return list(await asyncio.gather(*(engine.generate(r) for r in asked)))


def moved(folder: Path, seed: int) -> LanguageModel:
    """The folder's model after a step of training, so to speak."""
    model = load_model(folder)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return model

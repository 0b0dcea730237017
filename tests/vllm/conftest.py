"""Tests that need the real vLLM: `make test-vllm` runs them, elsewhere they are skipped."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aem_agent.model.presets import PresetConfig, make_preset

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "aem_agent")]  # helper modules of tests

TEXTS = [
    "You are in a room. Go to desk 1, take mug 2 from shelf 3, open drawer 4, look. <think>I need the mug</think>",
    "<action>go east</action> the walls are bare; there is a key on the floor! Your task is to: put a clean mug in it.",
    "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ .,:;?!-'\"()[]{}<>/",
]

SHAPE = PresetConfig(
    tokenizer="byte-bpe",
    vocab_size=512,
    hidden_size=64,
    layers=2,
    heads=2,
    kv_heads=2,
    head_dim=32,  # the least that vLLM's attention on CPUs takes
    ffn=128,
    max_positions=512,
    init_std=0.2,  # so that answers of untrained weights differ
)
"""Small enough that a test's time is vLLM's start."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = find_spec("vllm")
    if found is None or found.origin is None:  # a folder of that name on the path, as this one, is none
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(pytest.mark.skip(reason="vllm is not installed here: `make test-vllm` runs this"))


@pytest.fixture(scope="session")
def vllm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder in float32 whose head is apart from the embedding."""
    return make_preset(SHAPE, tmp_path_factory.mktemp("untied") / "model", 0, TEXTS)


@pytest.fixture(scope="session")
def vllm_tied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same whose head is the embedding."""
    return make_preset(replace(SHAPE, tied=True), tmp_path_factory.mktemp("tied") / "model", 0, TEXTS)


@pytest.fixture(scope="session")
def vllm_engine(vllm_folder: Path) -> Iterator[Any]:
    """One engine for all tests that leave it running; its weights change. A start takes half a minute."""
    yield from started(vllm_folder)


@pytest.fixture(scope="session")
def vllm_tied_engine(vllm_tied_folder: Path) -> Iterator[Any]:
    """The same over tied weights."""
    yield from started(vllm_tied_folder)


def started(folder: Path, **options: Any) -> Iterator[Any]:
    import vllm_help

    engine = vllm_help.load(folder, max_batch=32, **options)
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(scope="module")
def vllm_half_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """In bfloat16, tied, with weights as small as those of real models."""
    shape = replace(SHAPE, tied=True, init_std=0.02)
    yield from started(make_preset(shape, tmp_path_factory.mktemp("half") / "model", 0, TEXTS), dtype="bfloat16")


@pytest.fixture(scope="session")
def vllm_lora_engine(vllm_folder: Path) -> Iterator[Any]:
    """One that takes adapters."""
    yield from started(vllm_folder, lora_rank=4)

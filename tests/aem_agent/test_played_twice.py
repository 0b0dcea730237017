"""Episodes played twice in one engine: nothing the first run left there shows in the second."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.model_policies import ModelPolicy
from aem_agent.parsers import LineParser
from aem_agent.pools import InProcessPool
from aem_agent.prompts import PlainSpec
from aem_agent.rollout import RolloutManager
from aem_agent.types import Episode, Sampling, TaskRef
from aem_envs.registration import make_env

ENV = "aem/Toy-v0"
Computed = list[tuple[int, int]]
"""(tokens computed, tokens reused) of each batch of prompts."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = "go to desk 1 take key 2 from shelf 3 open door look . , north south unlock room"
    return make_preset(PresetConfig(init_std=0.2, max_positions=512), tmp_path_factory.mktemp("m"), 0, [words])


def computed(engine: TorchEngine) -> Computed:
    """What each batch of prompts costs from now on, and what it reuses."""
    tokens: Computed = []
    inner = type(engine.model).extend  # type: ignore[attr-defined]

    def noted(kept: Any, new: Any, *rest: Any) -> Any:
        tokens.append((len(new), sum(kv.shape[2] for kv in kept)))
        return inner(engine.model, kept, new, *rest)

    engine.model.extend = noted  # type: ignore[attr-defined]
    return tokens


@pytest.mark.parametrize(
    "spec", [PlainSpec(), PlainSpec(admissible=True), PlainSpec(window=1, admissible=True), PlainSpec(window=None)]
)
def test_episodes_played_twice_in_one_engine_are_equal_bit_for_bit(folder: Path, spec: PlainSpec) -> None:
    """With admissible actions at its end an episode's first prompt is not the beginning of its last one, which an
    engine may keep. What is reused need not show in the bits of every machine, so it is compared as well."""

    async def main() -> tuple[list[list[Episode]], list[Computed]]:
        engine = TorchEngine.load(folder, max_batch=12)
        sampling = Sampling(max_new_tokens=6, entropies=True)
        policy = ModelPolicy(spec, engine, engine.tokenizer, LineParser(), sampling, 512)
        tasks = [TaskRef(ENV, name, "train") for name in make_env(ENV).task_ids("train", 6)]
        runs, work = [], []
        for playing in (policy, policy, policy.with_sampling()):
            work.append(computed(engine))
            pool = InProcessPool(lambda: make_env(ENV, max_steps=8))
            manager = RolloutManager(pool, playing, concurrency=12, seed=5)
            groups = await manager.run(tasks, 3)
            await manager.aclose()
            runs.append([episode.identity() for group in groups for episode in group.episodes])
        await policy.aclose()
        return runs, work

    (first, second, third), (work, work_again, work_last) = asyncio.run(main())
    assert len(first) == 18 and first == second == third, "log-probs and entropies included"
    assert work == work_again == work_last and sum(kept for _, kept in work) > 2000

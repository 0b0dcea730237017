"""Which groups a step takes: dynamic sampling, over-sampling, early stop; and the pools that are kept for a run."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import figures, quick, run
from staged_env import RETURNS, alternating

from aem_agent.pools import PoolLimits, make_pool
from aem_agent.seeds import episode_seed
from aem_agent.types import Decision, Episode, EpisodePolicy, Response, RolloutGroup, TaskRef, Turn
from aem_envs.core import InfrastructureError
from trainer import collecting, loop, rollouts, tally
from trainer.batch import BatchError
from trainer.collecting import Collector, Experience
from trainer.config import TrainConfig
from trainer.metrics import success_by_type

STAGED = ("env.id=staged_env:test/Staged-v0", "rollout.group_size=8", "rollout.tasks=4", "warmstart.steps=0")


class Speaker:
    """Says one token. `waits` tells of which tasks it never gets to say it."""

    name, trainable = "speaker", True

    def __init__(self, waits: Callable[[TaskRef], bool] = lambda task: False) -> None:
        self.waits = waits

    def start(self, env: Any, task: TaskRef, seed: int) -> EpisodePolicy:
        waits = self.waits(task)

        class Said:
            async def act(self, observation: str, info: dict[str, Any]) -> Decision:
                if waits:
                    await asyncio.Event().wait()
                return Decision(Response("go east", (1, 2), (-1.0, -1.0), (1.0, 1.0)), "go east", (3,))

        return Said()

    async def aclose(self) -> None: ...


def collected(
    config: TrainConfig,
    step: int = 0,
    policy: Speaker | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Experience:
    collector = Collector(config, rollouts.task_pools(config), say)

    async def play() -> Experience:
        try:
            async with asyncio.timeout(30):
                return await collector.collect(policy or Speaker(), step)
        finally:
            await collector.aclose()

    return asyncio.run(play())


def ids(groups: tuple[RolloutGroup, ...]) -> list[str]:
    return [group.task.task_id for group in groups]


def offered(config: TrainConfig, step: int, total: int) -> list[TaskRef]:
    """The tasks that a step may take, in order."""
    (pool,) = rollouts.task_pools(config)
    first = rollouts.tasks_of_step(pool, step, config.rollout.tasks, config.seed)
    return list(rollouts.with_more(first, pool, step, config.seed, total=total))


def uniform(config: TrainConfig, step: int, task: TaskRef) -> bool:
    seed = episode_seed(config.seed, "trainer: rollout", step)
    returns = {alternating(task.task_id, episode_seed(seed, task.task_id, repeat)) for repeat in range(8)}
    return len(returns) == 1


def test_plain_collection_plays_the_tasks_of_the_step_whatever_comes_of_them() -> None:
    config = quick(*STAGED)
    found = collected(config, step=3)
    assert ids(found.groups) == [task.task_id for task in offered(config, 3, 4)]
    metrics = {k: v for k, v in found.metrics.items() if k != "tokens_per_second"}
    won = [e.won for group in found.groups for e in group.episodes]
    by_type = {name: metrics.pop(name) for name in [*metrics] if name.startswith("success/")}
    assert by_type == success_by_type([e for group in found.groups for e in group.episodes]) and by_type
    assert metrics == {
        "errors": 0,
        "success_played": sum(won) / len(won),
        "episodes_played": len(won),
        "turns_played": sum(len(e.turns) for g in found.groups for e in g.episodes),
        "groups_rejected": 0,
        "groups_missing": 0,
        "episodes_abandoned": 0,
    }


def test_dynamic_sampling_replaces_uniform_groups_by_the_next_tasks() -> None:
    config = quick(*STAGED, "rollout.dynamic=true")
    for step in (0, 1):
        found, expected, turned_down = collected(config, step), [], 0
        for task in offered(config, step, 12):
            if len(expected) == 4:
                break
            if uniform(config, step, task):
                turned_down += 1
            else:
                expected.append(task.task_id)
        assert ids(found.groups) == expected and len(expected) == 4
        assert found.metrics["groups_rejected"] == turned_down > 0 == found.metrics["groups_missing"]
        assert all(len({e.return_ for e in group.episodes}) == 2 for group in found.groups)
        played = [group.episodes for group in found.groups]
        won = sum(e.won for episodes in played for e in episodes) + 8 * turned_down
        assert found.metrics["success_played"] == pytest.approx(won / (32 + 8 * turned_down)), "the uniform ones too"


def test_what_is_varied_is_what_training_sees() -> None:
    config = quick(*STAGED, "rollout.dynamic=true", "env.kwargs.returns=partly", "rollout.rewards=success")
    assert not collected(config).groups, "returns differ, but no episode is won"
    assert collected(quick(*STAGED, "rollout.dynamic=true", "env.kwargs.returns=partly")).groups


def test_dynamic_sampling_ends_at_its_limit_and_says_so() -> None:
    config = quick(*STAGED, "rollout.dynamic=true", "rollout.dynamic_limit=1")
    step = next(n for n in range(20) if 0 < sum(uniform(config, n, task) for task in offered(config, n, 4)) < 4)
    found = collected(config, step)
    kept = [task.task_id for task in offered(config, step, 4) if not uniform(config, step, task)]
    assert ids(found.groups) == kept and 0 < len(kept) < 4
    assert found.metrics["groups_missing"] == found.metrics["groups_rejected"] == 4 - len(kept)


def test_a_step_without_a_varied_group_changes_nothing_and_is_recorded(tmp_path: Path) -> None:
    settings = ("rollout.dynamic=true", "env.kwargs.returns=always", "steps=2", "rollout.tasks=2")
    run(quick(*STAGED, *settings, "checkpoint.every=1"), tmp_path / "run")
    for record in figures(tmp_path / "run", ("rl",)):
        assert record["skipped"] and record["groups_rejected"] == 6 and record["groups_missing"] == 2
        assert record["success_played"] == 1 and "loss" not in record
    folders = sorted((tmp_path / "run" / "checkpoints").iterdir())
    first, last = (path / "model.safetensors" for path in (folders[0], folders[-1]))
    assert first != last and first.read_bytes() == last.read_bytes()
    assert "sampled in training" in (tmp_path / "run" / "report.html").read_text()


def test_early_stop_takes_the_groups_that_are_complete_first() -> None:
    config = quick(*STAGED, "rollout.tasks=2", "rollout.oversample=1.5", "rollout.early_stop=true")
    slow, *quicker = offered(config, 0, 3)
    found = collected(config, policy=Speaker(lambda task: task == slow))
    assert sorted(ids(found.groups)) == sorted(task.task_id for task in quicker)
    assert found.metrics["episodes_abandoned"] == 8 and found.metrics["groups_missing"] == 0


def test_a_step_that_loses_every_episode_names_the_error() -> None:
    for settings in ((), ("rollout.dynamic=true",)):
        config = quick(*STAGED, "env.kwargs.returns=broken", *settings)
        with pytest.raises(BatchError, match=r"no episode was completed.*InfrastructureError: as told"):
            collected(config)


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Ids of tasks whose episodes break; half of the others win."""
    ids: set[str] = set()

    def returns(task_id: str, seed: int) -> float:
        if task_id in ids:
            raise InfrastructureError("as told")
        return float(seed % 2)

    monkeypatch.setitem(RETURNS, "breaking", returns)
    return ids


@pytest.mark.parametrize("group_size", [1, 8])
def test_early_stop_does_not_take_the_groups_that_broke(group_size: int, breaking: set[str]) -> None:
    """They are the first that are complete."""
    settings = ("rollout.oversample=2", "rollout.early_stop=true", "rollout.retries=0", "env.kwargs.returns=breaking")
    more = (f"rollout.group_size={group_size}", "algorithm.estimator=ppo")
    config = quick(*STAGED, *settings, *more)
    broken, good = offered(config, 0, 8)[:4], offered(config, 0, 8)[4:]
    breaking |= {task.task_id for task in broken}
    found = collected(config)
    assert sorted(ids(found.groups)) == sorted(task.task_id for task in good)
    assert all(len(group.episodes) == group_size for group in found.groups)
    assert found.metrics["groups_missing"] == 0 and found.metrics["groups_rejected"] == 4


def test_early_stop_wants_groups_whose_episodes_can_be_compared() -> None:
    def group(completed: int) -> RolloutGroup:
        turns = (Turn("", Response("x", (1,)), "x"),)
        episodes = (Episode("e", "t", "", "train", n, n, turns) for n in range(completed))
        return RolloutGroup(TaskRef("e", "t", "train"), tuple(episodes))

    for settings, least in (((), 2), (("algorithm.estimator=ppo",), 1), (("algorithm.estimator=rloo",), 2)):
        keep = collecting.whole(quick(*settings))
        assert [keep(group(n)) for n in range(3)] == [n >= least for n in range(3)]


def test_groups_that_broke_are_missing_from_a_plain_step_too(breaking: set[str]) -> None:
    config = quick(*STAGED, "rollout.retries=0", "env.kwargs.returns=breaking")
    breaking |= {task.task_id for task in offered(config, 0, 4)[:3]}
    found = collected(config)
    assert found.metrics["groups_missing"] == 3 and found.metrics["errors"] == 24


def test_it_is_told_how_a_collection_goes_on(breaking: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "SAY_EVERY", 0.0)
    config = quick(*STAGED, "rollout.retries=0", "env.kwargs.returns=breaking")
    breaking.add(offered(config, 2, 4)[0].task_id)
    said: list[str] = []
    found = collected(config, 2, say=said.append)
    assert len(said) == 32
    last = f"success {found.metrics['success_played']:.2f}, 8 errors"
    assert said[-1].startswith("rollouts of step 3: 32/32 episodes, ") and said[-1].endswith(last)
    assert " episodes/s, " in said[-1] and " tokens/s, " in said[-1]


def test_further_tasks_are_new_until_the_pool_is_through() -> None:
    pool = [TaskRef("e", str(n), "train") for n in range(10)]
    first = rollouts.tasks_of_step(pool, 2, 4, seed=5)
    assert list(rollouts.with_more(first, pool, 2, 5, total=4)) == first
    many = list(rollouts.with_more(first, pool, 2, 5, total=23))
    assert many[:4] == first and len(set(many[:10])) == 10 and set(many[10:20]) == set(pool) and len(many) == 23
    assert list(rollouts.with_more(first, pool, 2, 5, total=9)) == many[:9]
    assert list(rollouts.with_more(first, pool, 3, 5, total=9)) != many[:9]


def test_pools_are_made_once_per_variant_and_closed_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def counted(name: str, make_env: Any, **options: Any) -> Any:
        pool: Any = make_pool("inline", make_env)  # quicker, and without limits
        close = pool.aclose

        async def aclose() -> None:
            pool.closed = True
            await close()

        pool.aclose, pool.closed, pool.described = aclose, False, (name, make_env.keywords, options)
        made.append(pool)
        return pool

    monkeypatch.setattr(collecting, "make_pool", counted)
    settings = ("rollout.step_limit=3", "rollout.episode_limit=60", "rollout.memory_limit=0.5", "rollout.workers=1")
    config = quick("warmstart.steps=0", "rollout.pool=processes", *settings)
    config = replace(config, env=replace(config.env, variants=({"max_steps": 4}, {"max_steps": 5})))
    run(config, tmp_path / "run")
    assert [pool.described[1] for pool in made] == [
        {"training": False, "variant": 0},
        {"training": True, "variant": 0},
        {"training": True, "variant": 1},
        {"training": False, "variant": 0},
    ]
    assert all(pool.closed for pool in made)
    assert made[1].described[0] == "processes"
    assert made[1].described[2] == {"workers": 1, "limits": PoolLimits(step=3, episode=60, memory=500_000_000)}


def test_an_error_closes_the_pools_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    close = Collector.aclose

    async def aclose(self: Collector) -> None:
        closed.append(len(self._pools))
        await close(self)

    def failing(*_: Any, **__: Any) -> None:
        raise BatchError("as told")

    monkeypatch.setattr(Collector, "aclose", aclose)
    monkeypatch.setattr(loop, "build", failing)
    with pytest.raises(BatchError, match="as told"):
        run(quick("warmstart.steps=0"), tmp_path / "run")
    assert closed == [1]

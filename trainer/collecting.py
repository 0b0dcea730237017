"""Playing episodes in a run: the pools of environments, and the groups that a step or an evaluation takes."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from aem_agent.collection import Collected, Wanted
from aem_agent.pools import EnvPool, PoolLimits, make_pool
from aem_agent.rollout import RolloutManager
from aem_agent.seeds import episode_seed
from aem_agent.types import Policy, RolloutGroup, TaskRef
from trainer import rollouts
from trainer.advantages import estimators, uses_critic
from trainer.batch import BatchError, completed, first_error
from trainer.config import RolloutConfig, TrainConfig
from trainer.division import Division
from trainer.metrics import success_by_type
from trainer.tally import Tally

EVALUATION = -1
"""Key of the evaluation's environments among the pools; variants of training are numbered from 0."""


@dataclass(frozen=True)
class Experience:
    """What an RL step trains on, and what it took to get it."""

    groups: tuple[RolloutGroup, ...]
    metrics: dict[str, float] = field(default_factory=dict)
    collected: Collected = field(default_factory=lambda: Collected(()))
    """`groups` and what was not taken."""
    seconds: float = 0.0


class Collector:
    """Plays tasks with the environments of a recipe. They live in pools that are kept for the whole run, one for each
    variant, made when first needed; those of evaluations are closed after each. All calls in one event loop.

    `say` is told now and then how it goes. Of several processes each plays its share, as `division` says.
    """

    def __init__(
        self,
        config: TrainConfig,
        tasks: Sequence[Sequence[TaskRef]],
        say: Callable[[str], None] = lambda words: None,
        division: Division | None = None,
    ) -> None:
        self.division = division or Division()
        self.config = config
        self.tasks = tasks
        self._say = say
        self._pools: dict[int, EnvPool] = {}

    async def collect(self, policy: Policy, step: int) -> Experience:
        """The rollout groups of RL step `step`.

        Which tasks are offered depends on the recipe and the step alone. So does, with the weights, what becomes of
        them, where engine and pool repeat bit for bit; but not with `early_stop`, which takes what is complete first.

        Raises:
            BatchError: every episode ended in an infrastructure error.
        """
        config, seed = self.config.rollout, self.config.seed
        pool = self.tasks[step % len(self.tasks)]
        wanted = wanted_groups(self.config)
        tasks = self.division.share(self._tasks(step))
        tally = Tally(f"rollouts of step {step + 1}", len(tasks) * config.group_size, self._say)
        if not tasks:  # fewer of them than processes
            return Experience(())
        manager = self._manager(self._pool(step % len(self.tasks)), policy, tally)
        started = time.perf_counter()
        collected = await manager.collect(
            rollouts.with_more(tasks, pool, step, seed, total=most_groups(config) - config.tasks + len(tasks)),
            config.group_size,
            seed=episode_seed(seed, "trainer: rollout", step),
            wanted=wanted,
        )
        return self._experience(collected, time.perf_counter() - started, whole=self.division.players == 1)

    def joined(self, step: int, parts: Sequence[Experience]) -> Experience:
        """What all processes have played for a step.

        Raises:
            BatchError: every episode ended in an infrastructure error.
        """
        if len(parts) == 1:
            return parts[0]
        groups = self.division.in_order(self._tasks(step), [part.groups for part in parts])
        collected = Collected(tuple(groups), abandoned=sum(part.collected.abandoned for part in parts))
        return self._experience(collected, max(part.seconds for part in parts), whole=True)

    def _tasks(self, step: int) -> list[TaskRef]:
        config, pool = self.config.rollout, self.tasks[step % len(self.tasks)]
        return rollouts.tasks_of_step(pool, step, config.tasks, self.config.seed)

    def _experience(self, collected: Collected, seconds: float, *, whole: bool) -> Experience:
        """`whole`: nothing else was played for the step."""
        if not whole:
            return Experience(collected.groups, {}, collected, seconds)
        if not any(map(completed, chain(collected.groups, collected.rejected))):
            raise BatchError(f"no episode was completed: {first_error((*collected.groups, *collected.rejected))}")
        return Experience(collected.groups, _metrics(collected, self.config.rollout, seconds), collected, seconds)

    async def evaluate(
        self, policies: Sequence[Policy], tasks: Sequence[TaskRef], seed: int
    ) -> list[list[RolloutGroup]]:
        """Every task once with each policy, one policy after the other; of several processes' this one's share."""
        tasks = self.division.share(tasks)
        if not tasks:
            return [[] for _ in policies]
        pool = self._pool(EVALUATION)
        try:
            tally = Tally("evaluation", len(tasks) * len(policies), self._say)
            return [list((await self._manager(pool, p, tally).collect(tasks, 1, seed=seed)).groups) for p in policies]
        finally:
            await self._pools.pop(EVALUATION).aclose()

    async def aclose(self) -> None:
        """Close all environments, and end the processes they live in."""
        pools, self._pools = list(self._pools.values()), {}
        await asyncio.gather(*(pool.aclose() for pool in pools))

    def _manager(self, pool: EnvPool, policy: Policy, tally: Tally) -> RolloutManager:
        config = self.config.rollout
        return RolloutManager(
            pool,
            policy,
            concurrency=config.concurrency,
            retries=config.retries,
            answer_limit=config.answer_limit,
            on_episode=tally,
        )

    def _pool(self, key: int) -> EnvPool:
        if key not in self._pools:
            make_env = partial(rollouts.make_env, self.config, training=key != EVALUATION, variant=max(key, 0))
            config = self.config.rollout
            self._pools[key] = make_pool(config.pool, make_env, workers=config.workers, limits=pool_limits(config))
        return self._pools[key]


def pool_limits(config: RolloutConfig) -> PoolLimits:
    """What an environment may use."""
    memory = None if config.memory_limit is None else int(config.memory_limit * 1e9)
    return PoolLimits(step=config.step_limit, episode=config.episode_limit, memory=memory)


def wanted_groups(config: TrainConfig) -> Wanted | None:
    """When enough was played for a step; None: when all its tasks were."""
    rollout = config.rollout
    if not rollout.dynamic and rollout.oversample == 1:
        return None
    return Wanted(
        rollout.tasks,
        keep=varied(rollout) if rollout.dynamic else whole(config),
        early=rollout.early_stop,
        spare=math.ceil(rollout.oversample * rollout.tasks) - rollout.tasks,
    )


def most_groups(config: RolloutConfig) -> int:
    """Groups that may be begun for a step."""
    factor = max(config.oversample, config.dynamic_limit) if config.dynamic else config.oversample
    return math.ceil(factor * config.tasks)


def whole(config: TrainConfig) -> Callable[[RolloutGroup], bool]:
    """Whether enough episodes of a group were completed to learn from: two where they are compared with one another.
    One whose episodes all broke at once would else be the first that is complete."""
    compared = config.rollout.group_size > 1 and not uses_critic(estimators.get(config.algorithm.estimator))
    return lambda group: len(completed(group)) >= 1 + compared


def varied(config: RolloutConfig) -> Callable[[RolloutGroup], bool]:
    """Whether the returns of a group that training would see differ (DAPO's dynamic sampling): otherwise all its
    advantages are zero. Not `aem_agent.collection.not_uniform`, which knows nothing of `rollout.rewards`, nor that
    episodes without a turn are not trained on."""
    success = config.rewards == "success"
    return lambda group: len({float(e.won) if success else e.return_ for e in completed(group)}) > 1


def _metrics(collected: Collected, config: RolloutConfig, seconds: float) -> dict[str, float]:
    """What a step's rollouts took; of all complete groups, also those that were turned down."""
    groups = (*collected.groups, *collected.rejected)
    episodes = [e for group in groups for e in completed(group)]
    tokens = sum(len(turn.response.token_ids) for e in episodes for turn in e.turns)
    return {
        "errors": float(sum(len(group.errored) for group in groups)),
        "success_played": sum(e.won for e in episodes) / len(episodes),
        "episodes_played": float(len(episodes)),
        "turns_played": float(sum(len(e.turns) for e in episodes)),
        "groups_rejected": float(len(collected.rejected)),
        "groups_missing": float(max(0, config.tasks - sum(map(bool, map(completed, collected.groups))))),
        "episodes_abandoned": float(collected.abandoned),
        "tokens_per_second": tokens / max(seconds, 1e-9),
        **success_by_type(episodes),
    }

"""GRPO++ as DeepSWE has it: compact filtering masks the loss and nothing else, and a constant divides the loss."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from helpers import figures, quick, quiet, run
from test_aem_in_the_loop import Recorded
from test_batch import episode, group, turn

from aem_agent.collection import Collected
from aem_agent.rollout import RolloutManager
from aem_agent.types import Episode, RolloutGroup
from trainer import aem, loop, update
from trainer.batch import build
from trainer.config import AlgorithmConfig, TrainConfig
from trainer.runs import new_run
from trainer.update import Plan, make_plan

PLUS_PLUS = (
    "algorithm.estimator=rloo",
    "algorithm.aggregate=constant",
    "algorithm.aggregate_length=64",
    "algorithm.clip_high=0.28",
    "algorithm.invalid_penalty=0",
    "rollout.group_size=4",
    "optimiser.minibatch_responses=1000",
    "warmstart.steps=0",
    "aem.range_guard=0",
)
FILTER = "algorithm.compact_filter=true"


def ended(e: Episode, *, terminated: bool, return_: float) -> Episode:
    """The episode as if it had ended otherwise."""
    reason = None if terminated else "max_steps"
    turns = (*(replace(t, reward=0.0) for t in e.turns[:-1]), replace(e.turns[-1], reward=return_))
    return replace(
        e,
        turns=turns,
        terminated=terminated,
        truncated=not terminated,
        truncation_reason=reason,
        return_=return_,
        won=return_ > 0,
        score=return_,
    )


def mixed(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """Every group: one solved, one given up, one cut off, and one cut off whose state at the limit earns the reward."""
    kinds = [(True, 1.0), (True, 0.0), (False, 0.0), (False, 1.0)]
    return [
        replace(g, episodes=tuple(ended(e, terminated=t, return_=r) for e, (t, r) in zip(g.episodes, kinds)))
        for g in groups
    ]


def cut_off(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """Every episode cut off, half of them with the reward."""
    return [
        replace(g, episodes=tuple(ended(e, terminated=False, return_=float(i % 2)) for i, e in enumerate(g.episodes)))
        for g in groups
    ]


@pytest.fixture
def outcomes_are(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace how the episodes collected for training ended."""
    collect = RolloutManager.collect

    def patch(change: Callable[[Sequence[RolloutGroup]], list[RolloutGroup]]) -> None:
        async def changed(self: RolloutManager, tasks: Any, repeats: int, **options: Any) -> Collected:
            collected = await collect(self, tasks, repeats, **options)
            return replace(collected, groups=tuple(change(collected.groups))) if repeats > 1 else collected

        monkeypatch.setattr(RolloutManager, "collect", changed)

    return patch


class Step:
    """One RL step of an untrained model, and what it computed."""

    def __init__(self, config: TrainConfig, path: Path, change: Callable[[Plan], Plan] = lambda plan: plan) -> None:
        with pytest.MonkeyPatch.context() as patch:
            credited, modulated = Recorded(patch, loop, "penalise_invalid"), Recorded(patch, aem, "modulate")
            move, plan = update._move, loop.make_plan
            self.gradients: list[Tensor] = []
            self.plan: Plan

            def caught(learner: Any, *arguments: Any) -> Any:
                self.gradients += [p.grad.clone() for p in learner.model.parameters() if p.grad is not None]
                return move(learner, *arguments)

            def planned(*arguments: Any) -> Plan:
                self.plan = change(plan(*arguments))
                return self.plan

            patch.setattr(update, "_move", caught)
            patch.setattr(loop, "make_plan", planned)
            with new_run(config, path, quiet()) as session:
                before = {name: w.clone() for name, w in session.model.state_dict().items()}
                self.record = loop.rl_step(session, 0)
                after = session.model.state_dict()
                self.moved = any(not before[name].equal(after[name]) for name in before)
                self.optimiser = session.learner.optimiser.state_dict()["state"]
            self.advantages: Tensor = credited.result
            self.alpha: Tensor = modulated.result.alpha


def same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return len(a) == len(b) > 0 and all(x.equal(y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_what_is_cut_off_has_no_gradient_but_counts_in_baseline_and_alpha(
    enabled: str, tmp_path: Path, outcomes_are: Callable[..., None]
) -> None:
    outcomes_are(mixed)
    settings = (*PLUS_PLUS, f"aem.enabled={enabled}")
    plain, masked = Step(quick(*settings), tmp_path / "a"), Step(quick(*settings, FILTER), tmp_path / "b")
    assert plain.advantages.equal(masked.advantages) and plain.alpha.equal(masked.alpha)
    assert (masked.alpha != 1).any() == (enabled == "true")
    assert not same(plain.gradients, masked.gradients) and masked.moved
    assert plain.record["filtered_share"] == 0 < masked.record["filtered_share"] < 1
    assert masked.record["truncated_share"] == 0.5
    assert masked.record["kept_share"] == pytest.approx(1 - float(masked.record["filtered_share"]))

    def absurd(plan: Plan) -> Plan:
        """Give what is filtered advantages that would show in any sum."""
        assert plan.filtered.any() and not (plan.filtered & plan.keep).any()
        without_weight = (plan.weights == 0) & (plan.advantages != 0)
        assert without_weight.any()
        return replace(plan, advantages=torch.where(without_weight, 1e9, plan.advantages))

    assert same(masked.gradients, Step(quick(*settings, FILTER), tmp_path / "c", absurd).gradients)


@pytest.mark.parametrize("estimator", ["rloo", "ppo"])
def test_where_all_is_cut_off_the_step_moves_nothing(
    estimator: str, tmp_path: Path, outcomes_are: Callable[..., None]
) -> None:
    outcomes_are(cut_off)
    found = Step(quick(*PLUS_PLUS, FILTER, f"algorithm.estimator={estimator}"), tmp_path / "run")
    assert found.advantages.any(), "there was something to learn, had it not been masked"
    assert not found.moved and not found.gradients and not found.optimiser
    assert (found.record["filtered_share"], found.record["kept_share"]) == (1, 0)
    assert "loss" not in found.record and "grad_norm" not in found.record
    assert all(math.isfinite(float(value)) for value in found.record.values())


def test_a_run_where_all_is_cut_off_goes_to_its_end(tmp_path: Path, outcomes_are: Callable[..., None]) -> None:
    outcomes_are(cut_off)
    run(quick(*PLUS_PLUS, FILTER, "steps=2"), tmp_path / "run")
    assert [r["filtered_share"] for r in figures(tmp_path / "run", ("rl",))] == [1, 1]
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_filter_masks_whole_episodes_whatever_they_earned() -> None:
    cut = replace(episode(turn([1], [2, 3]), turn([1, 2, 3], [4])), return_=1.0, won=True)
    batch, outcomes = build([group(episode(turn([1], [2]), won=True), cut)])
    advantages = torch.tensor([2.0, -2.0, -2.0])
    for settings in ({}, {"normaliser": "all"}, {"skip_zero": False}):
        config = AlgorithmConfig(compact_filter=True, **settings)  # type: ignore[arg-type]
        plan = make_plan(batch, advantages, None, outcomes.terminated, config)
        assert plan.keep.tolist() == [True, False, False] and plan.filtered.tolist() == [False, True, True]
        assert plan.weights.tolist() == [0.25 if "normaliser" in settings else 1.0, 0, 0, 0]
    with_critic = make_plan(batch, advantages, torch.zeros(3), outcomes.terminated, config)
    assert with_critic.keep.tolist() == [True, False, False], "the critic's loss masks it too"
    off = make_plan(batch, advantages, None, outcomes.terminated, AlgorithmConfig())
    assert off.keep.all() and not off.filtered.any()


def test_the_constant_counts_all_episodes_whatever_their_length() -> None:
    # 3 episodes × 4 tokens: every kept token weighs 1/12, also where the filter or a zero advantage leaves others out
    cut = episode(turn([1], [2, 3]), turn([1, 2, 3], [4]))
    batch, outcomes = build(
        [group(episode(turn([1], [2]), won=True), cut, episode(turn([1], [5, 6, 7, 8, 9]), won=True))]
    )
    config = AlgorithmConfig(aggregate="constant", aggregate_length=4, compact_filter=True)
    plan = make_plan(batch, torch.tensor([2.0, -2.0, -2.0, 0.0]), None, outcomes.terminated, config)
    torch.testing.assert_close(plan.weights, torch.tensor([1 / 12, *[0.0] * 8]))
    everything = replace(config, compact_filter=False, skip_zero=False)
    plan = make_plan(batch, torch.tensor([2.0, -2.0, -2.0, 0.0]), None, outcomes.terminated, everything)
    torch.testing.assert_close(plan.weights, torch.full((9,), 1 / 12))


def test_the_constant_reaches_the_gradient(tmp_path: Path, outcomes_are: Callable[..., None]) -> None:
    """Twice the constant, half the gradient: no step brings its weights back to a sum of 1."""
    outcomes_are(mixed)
    once = Step(quick(*PLUS_PLUS), tmp_path / "a")
    twice = Step(quick(*PLUS_PLUS, "algorithm.aggregate_length=128"), tmp_path / "b")
    torch.testing.assert_close(twice.gradients, [g / 2 for g in once.gradients])
    assert once.record["weight"] == pytest.approx(2 * twice.record["weight"]) and once.record["weight"] < 1
    for record in (once.record, twice.record):
        assert record["ratio_mean"] == pytest.approx(1.0, abs=1e-4), "means over tokens stay means"


def test_minibatches_share_the_constant(tmp_path: Path, outcomes_are: Callable[..., None]) -> None:
    """The mean over a step's minibatches is the whole batch's sum: none is scaled up for being small."""
    outcomes_are(mixed)
    whole = Step(quick(*PLUS_PLUS), tmp_path / "a")
    parts = Step(quick(*PLUS_PLUS, "optimiser.minibatch_responses=12"), tmp_path / "b")
    assert len(parts.gradients) > len(whole.gradients)
    assert parts.record["weight"] == pytest.approx(float(whole.record["weight"]))


def test_environments_seconds_and_lost_episodes_are_in_the_record() -> None:
    def timed(seconds: dict[str, float]) -> Any:
        return replace(turn([1], [2]), info={"seconds": seconds})

    first = episode(timed({"commands": 1.0}), timed({"commands": 2.0, "grading": 8.0}), won=True)
    second = episode(timed({"commands": 3.0}), turn([1], [2]))
    lost = episode(timed({"commands": 100.0}), error="InfrastructureError: infra:daemon")
    apart = RolloutGroup(group().task, (first, second), (lost, lost))
    batch, outcomes = build([apart])
    assert outcomes.seconds == {"commands": 3.0, "grading": 4.0} and outcomes.errors == 2
    zeros = torch.zeros(len(batch.targets))
    record = loop.rollout_metrics(batch, outcomes, zeros, zeros)
    assert (record["env_seconds_commands"], record["env_seconds_grading"], record["errors"]) == (3.0, 4.0, 2.0)
    _, plain = build([group(episode(turn([1], [2])))])
    assert plain.seconds == {} and plain.errors == 0


def test_a_group_that_lost_episodes_is_as_large_as_what_is_left(
    tmp_path: Path, outcomes_are: Callable[..., None]
) -> None:
    """An infrastructure error is in no baseline: of four episodes one is lost, and G is 3."""

    def broken(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
        return [
            replace(g, episodes=g.episodes[:3], errored=(replace(g.episodes[3], error="X: y"),)) for g in mixed(groups)
        ]

    outcomes_are(broken)
    found = Step(quick(*PLUS_PLUS, "rollout.reward_scale=1"), tmp_path / "run")
    assert found.record["errors"] == 2 and found.record["episodes"] == 6
    assert sorted({round(a, 5) for a in found.advantages.tolist()}) == [-0.5, 1.0]  # 3/2·(0 − 1/3), 3/2·(1 − 1/3)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_group_that_lost_all_its_episodes_is_missing_from_the_step(
    gone: int, tmp_path: Path, outcomes_are: Callable[..., None]
) -> None:
    def broken(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
        left = mixed(groups)
        left[gone] = replace(
            left[gone], episodes=(), errored=tuple(replace(e, error="X: y") for e in groups[gone].episodes)
        )
        left[1 - gone] = cut_off([left[1 - gone]])[0]
        return left

    outcomes_are(broken)
    found = Step(quick(*PLUS_PLUS), tmp_path / "run")
    assert (found.record["errors"], found.record["episodes"], found.record["uniform_groups"]) == (4, 4, 0)
    assert found.moved and all(math.isfinite(float(value)) for value in found.record.values())
    assert float(found.alpha.mean()) == pytest.approx(1.0)

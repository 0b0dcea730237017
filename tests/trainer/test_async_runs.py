"""Runs whose rollouts go on while they train, whose engine is not the trainer's module, or whose environments live in
other processes."""

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers import assert_same, figures, quick, quiet, resume, run
from staged_env import WaitingEnv, at_most
from test_aem_in_the_loop import MIXED, Recorded

from aem_agent.engines.torch_engine import TorchEngine
from trainer import loop
from trainer.batch import Batch, BatchError
from trainer.collecting import Collector, Experience
from trainer.errors import ParityError
from trainer.parity import PARITY, PARITY_HALF, parity
from trainer.runs import new_run
from trainer.staleness import StalenessError, staleness_metrics


def test_an_engine_of_ones_own_by_name_and_options_trains_the_same(whole: Path, tmp_path: Path) -> None:
    """It has its own copy of the weights: they are pushed before the first evaluation and after every update."""
    run(quick("rollout.engine=staged_engine:Plain", "rollout.engine_options.deterministic=true"), tmp_path / "run")
    assert_same(whole, tmp_path / "run")


def test_options_reach_the_engine(tmp_path: Path) -> None:
    settings = ("rollout.engine_options.max_batch=3", "rollout.engine_options.deterministic=false")
    for more in ((), ("rollout.engine_options.dtype=bfloat16",), ("rollout.staleness=1",)):
        with new_run(quick(*settings, *more), tmp_path / f"run{len(more)}{more}", quiet()) as session:
            engine: Any = session.engine
            assert isinstance(engine, TorchEngine) and engine.max_batch == 3
            assert engine.share == (not more)
            assert (engine.model is session.model) == (not more)
            assert session.parity_limit == (0.5 if "bfloat16" in str(more) else 1e-3)


@pytest.mark.parametrize("staleness", [1, 2])
def test_rollouts_may_lag_by_as_much_as_the_recipe_says(staleness: int, tmp_path: Path) -> None:
    run(quick(f"rollout.staleness={staleness}", "steps=5", "checkpoint.every=5"), tmp_path / "run")
    records = figures(tmp_path / "run", ("rl",))
    ages = [(r["staleness_mean"], r["staleness_max"]) for r in records]
    assert ages[0] == (0, 0) and ages[1] == (1, 1)
    assert all(mean == oldest <= staleness for mean, oldest in ages), "each batch was sampled by one version"


@pytest.mark.parametrize("engine", ["torch", "staged_engine:WithoutEntropies"])
def test_log_probs_of_stale_batches_stay_those_that_were_recorded(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second step's rollouts come from the weights before the first update, so the ratio is not 1."""
    scored = Recorded(monkeypatch, loop, "score")
    settings = ("rollout.staleness=1", f"rollout.engine={engine}", "warmstart.steps=0", "optimiser.lr=0.05")
    with new_run(quick(*MIXED, *settings, "optimiser.minibatch_responses=1000"), tmp_path / "run", quiet()) as session:
        session.push_weights()
        first, second = loop.rl_step(session, 0), loop.rl_step(session, 1)
    assert first["ratio_mean"] == pytest.approx(1) and "parity_error" in first
    assert second["ratio_mean"] != pytest.approx(1, abs=1e-3) and "parity_error" not in second
    batch: Batch = scored.arguments[1]
    assert scored.result.logprobs is batch.old_logprobs and not scored.result.fresh.any()


def test_a_batch_that_is_too_old_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(StalenessError, match=r"of 1 to 1 updates ago, allowed are 0 to 0 .*policy_versions"):
        run(quick("rollout.engine=staged_engine:Forgetful"), tmp_path / "run")


def test_staleness_is_counted_from_the_oldest_token() -> None:
    zeros = torch.zeros(3, dtype=torch.long)
    batch = Batch(zeros, torch.tensor([0, 3]), zeros, zeros, zeros, zeros, zeros, versions=torch.tensor([4, 5, 6]))
    assert staleness_metrics(batch, 6, 2) == {"staleness_mean": 1, "staleness_max": 2}
    for version, limit in ((6, 1), (5, 2)):  # too old, and from the future
        with pytest.raises(StalenessError):
            staleness_metrics(batch, version, limit)


class Stages:
    """Lets rollouts of RL steps go on when it should: the steps of a `WaitingEnv` wait for what a test says."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.collecting = -1
        collect = Collector.collect

        async def staged(collector: Collector, policy: Any, step: int) -> Experience:
            self.collecting = step
            return await collect(collector, policy, step)

        patch.setattr(Collector, "collect", staged)


def test_partial_rollouts_go_on_under_new_weights_within_an_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, spoken, pushed = Stages(monkeypatch), threading.Semaphore(0), threading.Event()

    def before_step(number: int) -> None:
        if stages.collecting == 1 and number == 0:  # one response was sampled
            spoken.release()
            at_most(pushed)

    monkeypatch.setattr(WaitingEnv, "before_step", staticmethod(before_step))
    settings = ("rollout.staleness=1", "rollout.partial=true", "warmstart.steps=0")
    with new_run(quick("env.id=staged_env:test/Waiting-v0", *settings), tmp_path / "run", quiet()) as session:
        session.push_weights()
        push = session.producer.push

        def push_in_the_middle(model: Any) -> None:
            assert all(spoken.acquire(timeout=30) for _ in range(4)), "all four episodes are in flight"
            push(model)
            pushed.set()

        monkeypatch.setattr(session.producer, "push", push_in_the_middle)
        loop.rl_step(session, 0)
        experience = session.collect(1)
        assert session.version == 2
    longer = [e for group in experience.groups for e in group.episodes if len(e.turns) > 1]
    assert longer
    for episode in longer:
        first, *later = [turn.response.policy_versions for turn in episode.turns]
        assert first == ((0, 1),) and set(later) == {((0, 2),)}
    batch, _ = loop.build(experience.groups)
    assert staleness_metrics(batch, 2, 1)["staleness_max"] == 1
    assert set(batch.versions.tolist()) == {1, 2}  # type: ignore[union-attr]


def test_without_partial_rollouts_the_push_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, asked = Stages(monkeypatch), threading.Event()

    def before_step(number: int) -> None:
        if stages.collecting == 1 and number == 1:
            at_most(asked)

    monkeypatch.setattr(WaitingEnv, "before_step", staticmethod(before_step))
    config = quick("env.id=staged_env:test/Waiting-v0", "rollout.staleness=1", "warmstart.steps=0")
    with new_run(config, tmp_path / "run", quiet()) as session:
        session.push_weights()
        push = session.producer.push
        monkeypatch.setattr(session.producer, "push", lambda model: (asked.set(), push(model)))
        loop.rl_step(session, 0)
        experience = session.collect(1)
    versions = {t.response.policy_versions for g in experience.groups for e in g.episodes for t in e.turns}
    assert versions == {((0, 1),)}


def test_an_error_in_the_background_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect = Collector.collect

    async def failing(collector: Collector, policy: Any, step: int) -> Experience:
        if step == 2:
            raise BatchError("as told")
        return await collect(collector, policy, step)

    monkeypatch.setattr(Collector, "collect", failing)
    with pytest.raises(BatchError, match="as told"):
        run(quick("rollout.staleness=2"), tmp_path / "run")
    assert [r["step"] for r in figures(tmp_path / "run", ("rl",))] == [1, 2]
    assert not [t for t in threading.enumerate() if t.name.startswith(("event-loop", "torch-engine"))]


def test_a_run_with_staleness_resumes_where_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    collect = Collector.collect

    async def seen(collector: Collector, policy: Any, step: int) -> Experience:
        asked.append(step)
        return await collect(collector, policy, step)

    def cut(session: Any, step: int) -> dict[str, Any]:
        if step == 3:
            raise KeyboardInterrupt
        return original(session, step)

    original = loop.rl_step
    monkeypatch.setattr(Collector, "collect", seen)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "rl_step", cut)
        run(quick("rollout.staleness=1", "algorithm.estimator=ppo"), tmp_path / "run")
    asked.clear()
    resume(tmp_path / "run")
    assert asked == [2, 3], "from the last checkpoint on"
    records = figures(tmp_path / "run", ("rl",))
    assert [r["step"] for r in records] == [1, 2, 3, 4]
    assert [r["staleness_max"] for r in records] == [0, 1, 0, 1]


def test_entropies_that_the_engine_lacks_are_computed_and_log_probs_kept(tmp_path: Path) -> None:
    settings = ("rollout.tasks=4", "rollout.group_size=4", "steps=2")
    run(quick(*settings, "rollout.engine=staged_engine:WithoutEntropies"), tmp_path / "without")
    run(quick(*settings), tmp_path / "with")
    for a, b in zip(*(figures(tmp_path / name, ("rl",)) for name in ("without", "with")), strict=True):
        assert a.keys() - b.keys() == {"flops_score"} and not b.keys() - a.keys()
        for name, value in a.items():
            if name == "flops_score":
                continue
            assert value == (value if isinstance(value, str) else pytest.approx(b[name], abs=1e-3)), name


def test_recorded_log_probs_are_compared_where_they_can_be(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"differ by 0\.01"):
        run(quick("rollout.engine=staged_engine:Shifted"), tmp_path / "run")


def test_only_what_the_present_weights_sampled_is_compared() -> None:
    now, then = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-1.0, -2.5, -3.0005])
    assert parity(now, then, torch.tensor([True, False, True]), PARITY)["parity_error"] == pytest.approx(
        0.0005, abs=1e-6
    )
    with pytest.raises(ParityError, match=r"differ by 0\.5 nats \(allowed 0\.001\)"):
        parity(now, then, torch.tensor([True, True, False]), PARITY)
    with pytest.raises(ParityError):
        parity(now, then, None, PARITY)
    with pytest.raises(ParityError, match="nan"):
        parity(now, then * float("nan"), None, PARITY_HALF)
    assert parity(now, then, torch.zeros(3, dtype=torch.bool), PARITY) == {}, "nothing to compare"


def test_log_probs_that_were_not_recorded_cannot_be_had_of_weights_that_are_gone(tmp_path: Path) -> None:
    engine = "rollout.engine=staged_engine:WithoutLogprobs"
    run(quick(engine, "steps=1"), tmp_path / "fresh")
    with pytest.raises(BatchError, match=r"records no log-probs.*rollout\.staleness=0"):
        run(quick(engine, "rollout.staleness=1"), tmp_path / "stale")

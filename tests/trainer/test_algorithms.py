"""Every algorithm of the table, with AEM and without, two RL steps from end to end."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import mixed_env  # noqa: F401  # registers test/Mixed-v0
from helpers import quick, quiet, run
from test_cli import command

from trainer import aem, loop
from trainer.advantages import estimators
from trainer.aem import Modulation
from trainer.algorithms import ALGORITHMS, DESCRIPTIONS, PLAIN, use
from trainer.config import ConfigError, TrainConfig
from trainer.overrides import override
from trainer.runs import load_recipe, new_run

SETTINGS = (
    "env.id=test/Mixed-v0",
    "warmstart.steps=0",
    "rollout.tasks=3",
    "rollout.group_size=4",
    "rollout.max_steps=3",
    "algorithm.aggregate_length=24",
    "algorithm.overlong_limit=30",
    "algorithm.overlong_buffer=15",
    "aem.range_guard=0",
    "steps=2",
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that has cloned a little."""
    path = tmp_path_factory.mktemp("algorithms")
    run(quick("steps=0", "evaluation.tasks=1"), path / "run")
    return path / "run" / "warmstart"


def configured(start: Path, name: str, *settings: str) -> TrainConfig:
    return override(use(quick(*SETTINGS, f"model.path={start}"), name), settings)


def trained(config: TrainConfig, path: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Weights after two RL steps, and their metrics."""
    with new_run(config, path, quiet()) as session:
        records = []
        for step in range(2):
            records.append(loop.rl_step(session, step))
            session.finish_rl_step(step + 1, records[-1])
        assert isinstance(session.model, nn.Module)
        return {name: tensor.clone() for name, tensor in session.model.state_dict().items()}, records


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def untouched(advantages: Tensor, *_: Any, **__: Any) -> Modulation:
    """A loop without AEM."""
    return Modulation(advantages, torch.ones(1), {})


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_steps_with_aem_and_without(
    name: str, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On, weights move and differ; off, they are those of λ = 0 and of a loop that never calls AEM, bit for bit."""
    on, records = trained(configured(start, name), tmp_path / "on")
    for record in records:
        assert float(record["grad_norm"]) > 0 and record["alpha_q05"] < 1 < record["alpha_q95"]
    off, records = trained(configured(start, name, "aem.enabled=false"), tmp_path / "off")
    assert all(record["alpha_q05"] == record["alpha_q95"] == 1 for record in records)
    assert not same(on, off)
    assert same(off, trained(configured(start, name, "aem.lam=0"), tmp_path / "zero")[0])
    monkeypatch.setattr(aem, "modulate", untouched)
    assert same(off, trained(configured(start, name), tmp_path / "plain")[0])


def test_no_two_algorithms_train_alike(start: Path, tmp_path: Path) -> None:
    """Two passes over the batch at a high rate, so that clipping tells them apart too."""
    further = ("algorithm.epochs=2", "optimiser.lr=1e-2", "aem.enabled=false")
    found = {name: trained(configured(start, name, *further), tmp_path / name)[0] for name in ALGORITHMS}
    names = list(found)
    assert [(a, b) for i, a in enumerate(names) for b in names[:i] if same(found[a], found[b])] == []


@pytest.mark.parametrize("name", ["grpo", "gspo", "reinforce-pp"])
def test_every_algorithm_takes_every_way_of_sharing_the_loss(name: str, start: Path, tmp_path: Path) -> None:
    ways = ("token_mean", "response_mean", "episode_mean", "constant")
    found = [trained(configured(start, name, f"algorithm.aggregate={way}"), tmp_path / way)[0] for way in ways]
    assert not any(same(a, b) for i, a in enumerate(found) for b in found[:i])


def test_every_estimator_is_some_algorithms() -> None:
    assert {use(TrainConfig(), name).algorithm.estimator for name in ALGORITHMS} == set(estimators.names())


def test_an_algorithm_leaves_nothing_of_another_behind() -> None:
    keys = {setting.partition("=")[0] for setting in PLAIN}
    for entry in ALGORITHMS.values():
        assert {setting.partition("=")[0] for setting in entry} <= keys
    assert use(TrainConfig(), "grpo") == TrainConfig()  # what PLAIN says are the defaults
    spare = ("algorithm.compact_filter=true", "rollout.dynamic=true", "rollout.oversample=2")
    for own in (load_recipe("toy"), quick("algorithm.estimator=ppo", "algorithm.gamma=0.9"), quick(*spare)):
        used = {name: use(own, name) for name in ALGORITHMS}
        for before, name in pairwise([*used, *used]):
            assert use(used[before], name) == used[name], (before, name)


def test_ppo_counts_nothing_after_a_truncated_episode_unless_it_is_told_to() -> None:
    for name in ALGORITHMS:
        assert use(TrainConfig(), name).algorithm.truncation_ends == (name in ("ppo", "ppo-token")), name
    assert not use(TrainConfig(), "ppo", ["algorithm.truncation_ends=false"]).algorithm.truncation_ends
    assert not use(use(TrainConfig(), "ppo"), "grpo").algorithm.truncation_ends


def test_the_rest_stays_the_recipes() -> None:
    own = quick("algorithm.invalid_penalty=0.7", "algorithm.std_floor=0.5", "algorithm.estimator=ppo", "aem.lam=2")
    got = use(override(own, ["algorithm.options.level=token"]), "dapo")
    assert (got.algorithm.invalid_penalty, got.algorithm.std_floor, got.aem.lam) == (0.7, 0.5, 2.0)
    assert (got.algorithm.estimator, got.algorithm.clip_high, got.rollout.dynamic) == ("grpo", 0.28, True)
    assert got.algorithm.options == {} and got.optimiser == own.optimiser


def test_early_stop_keeps_its_spare_groups() -> None:
    own = quick("rollout.early_stop=true", "rollout.oversample=1.5")
    assert {use(own, name).rollout.oversample for name in ALGORITHMS} == {1.5}
    assert use(quick(), "grpo-pp").rollout.oversample == 2.0
    many = quick("rollout.early_stop=true", "rollout.oversample=5")
    for name in ("dapo", "grpo-pp"):
        assert use(many, name).rollout.dynamic_limit == 5.0, "as many as are begun at once"


def test_settings_are_checked_together_with_the_algorithm() -> None:
    """What one of them forbids, the other may allow."""
    several = quick("scale.processes=2")
    assert use(several, "dapo").scale.rollouts == "first" and use(several, "gspo").scale.rollouts == "each"
    assert use(several, "dapo", ["scale.processes=1"]).scale.processes == 1
    got = use(several, "grpo-pp", ["rollout.oversample=3", "rollout.dynamic_limit=3", "algorithm.clip_high=0.5"])
    assert (got.rollout.oversample, got.algorithm.clip_high, got.algorithm.estimator) == (3.0, 0.5, "rloo")
    assert use(several, "empg", ["algorithm.options.strength=2"]).algorithm.options == {"strength": 2}
    alone = quick("algorithm.estimator=ppo", "rollout.group_size=1")
    assert use(alone, "grpo", ["rollout.group_size=2"]).rollout.group_size == 2
    with pytest.raises(ConfigError, match="must be at least 2 for grpo"):
        use(alone, "grpo")
    with pytest.raises(ConfigError, match=r"set scale\.rollouts=first"):
        use(several, "dapo", ["scale.rollouts=each"])


def test_an_unknown_algorithm_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown algorithm 'gppo'; known: grpo, dr-grpo"):
        use(TrainConfig(), "gppo")


def test_the_command_takes_an_algorithm_before_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("--algorithm", "gspo", "--set", "algorithm.clip_high=0.01", "--dry-run")
    code, out, _ = command(monkeypatch, capsys, "run", "toy", *chosen)
    assert code == 0
    for line in ("algorithm.ratio = sequence", "algorithm.clip_low = 0.0003", "algorithm.clip_high = 0.01"):
        assert line in out
    code, out, _ = command(monkeypatch, capsys, "list")
    assert code == 0 and list(DESCRIPTIONS) == list(ALGORITHMS)
    assert all(f"{name:22} {line}" in out for name, line in DESCRIPTIONS.items())

"""Every setting of the algorithm reaches the estimator or the loss, under the name and with the sign it has there."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parent))
import mixed_env  # noqa: F401  # registers test/Mixed-v0
from helpers import quick, quiet
from test_aem_in_the_loop import Recorded
from test_batch import episode, group, turn

from trainer import loop, objective, scoring
from trainer.batch import build
from trainer.losses import losses
from trainer.runs import new_run
from trainer.scoring import Scores

SETTINGS = (
    "env.id=test/Mixed-v0",
    "warmstart.steps=0",
    "rollout.tasks=3",
    "rollout.group_size=4",
    "rollout.max_steps=3",
    "optimiser.minibatch_responses=1000",
    "metrics.drift_responses=0",
)


def step(path: Path, *settings: str, patched: Any = lambda session: None) -> dict[str, Any]:
    """The first RL step of an untrained model."""
    with new_run(quick(*SETTINGS, *settings), path, quiet()) as session:
        patched(session)
        return loop.rl_step(session, 0)


ESTIMATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo": (
        "baseline=length normalise=false std_floor=0.5",
        {"baseline": "length", "normalise": False, "std_floor": 0.5},
    ),
    "dr_grpo": ("", {}),
    "rloo": ("", {}),
    "reinforce_pp": (
        "gamma=0.7 kl_reward=0.2 whiten=false",
        {"gamma": 0.7, "kl_coefficient": 0.2, "whitened": False},
    ),
    "gigpo": (
        "gamma=0.7 normalise=false std_floor=0.5 options.step_weight=3.0",
        {"gamma": 0.7, "normalise": False, "std_floor": 0.5, "step_weight": 3.0},
    ),
    "empg": (
        "normalise=false std_floor=0.5 options.strength=2.0 options.bonus=0.3",
        {"normalise": False, "std_floor": 0.5, "strength": 2.0, "bonus": 0.3},
    ),
    "ppo": (
        "gae_level=token gamma=0.7 gae_lambda=0.6 whiten=false truncation_ends=true",
        {"level": "token", "gamma": 0.7, "lam": 0.6, "whitened": False, "truncation_ends": True},
    ),
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_setting_reaches_the_estimator(estimator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is at its default, and none is lost, renamed or made up."""
    settings, expected = ESTIMATORS[estimator]
    asked: list[Recorded] = []
    step(
        tmp_path / "run",
        *(f"algorithm.{setting}" for setting in (f"estimator={estimator}", *settings.split())),
        patched=lambda session: asked.append(Recorded(monkeypatch, session, "estimator")),
    )
    assert asked[0].options == expected


@pytest.mark.parametrize(
    ("setting", "keyword", "value"),
    [
        ("clip_low=0.1", "clip_low", 0.1),
        ("clip_high=0.3", "clip_high", 0.3),
        ("dual_clip=4", "dual_clip", 4.0),
        ("ratio=sequence", "ratio", "sequence"),
    ],
)
def test_every_setting_reaches_the_policy_loss(
    setting: str, keyword: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": None, "ratio": "token"}
    asked = Recorded(monkeypatch, SimpleNamespace(clip=losses.get("clip")), "clip")
    monkeypatch.setattr(losses, "get", {"clip": asked}.get)
    step(tmp_path / "run", f"algorithm.{setting}")
    assert {name: asked.options[name] for name in default} == {**default, keyword: value}


@pytest.mark.parametrize("clip", [0.5, 0.07])
def test_the_value_clip_reaches_the_critics_loss(clip: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Recorded(monkeypatch, objective, "value_loss")
    step(tmp_path / "run", "algorithm.estimator=ppo", f"algorithm.value_clip={clip}")
    assert asked.options == {"clip": clip}


def test_an_entropy_bonus_lowers_the_loss_by_itself_times_the_mean_entropy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, planned = Recorded(monkeypatch, loop, "score"), Recorded(monkeypatch, loop, "make_plan")
    with_bonus = step(tmp_path / "bonus", "algorithm.entropy_bonus=0.25")
    plain = step(tmp_path / "plain", "algorithm.skip_zero=false")
    entropy = (planned.result.weights * scored.result.entropies).sum()
    assert entropy > 0.5
    assert float(with_bonus["loss"] - plain["loss"]) == pytest.approx(-0.25 * float(entropy), rel=1e-4)


def test_estimators_see_entropies_and_not_surprisals() -> None:
    """EMPG's uncertainty is the mean token entropy, whatever AEM's proxy is."""
    batch, outcomes = build([group(episode(turn([1], [2, 3])), episode(turn([1], [4])))])
    seen = scoring.signals(batch, outcomes, Scores(-torch.tensor([5.0, 6.0, 7.0]), torch.tensor([1.0, 2.0, 3.0])))
    assert seen.uncertainty is not None
    assert_close(seen.uncertainty, torch.tensor([1.5, 3.0]))

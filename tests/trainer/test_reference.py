"""The KL to the model as RL began: by hand, in the loss, in rewards, and after a resume."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parent))
import mixed_env  # noqa: F401  # registers test/Mixed-v0
from helpers import assert_same, figures, quick, quiet, resume, run
from test_aem_in_the_loop import Recorded
from test_batch import episode, group, turn

from aem_agent.model.interface import load_model
from trainer import loop
from trainer.batch import build
from trainer.config import AlgorithmConfig, ConfigError
from trainer.errors import CheckpointError
from trainer.policy import Policy
from trainer.reference import Reference, make_reference
from trainer.runs import new_run
from trainer.scoring import Scores
from trainer.update import make_plan

SETTINGS = (
    "env.id=test/Mixed-v0",
    "rollout.tasks=3",
    "rollout.group_size=4",
    "algorithm.kl_coefficient=0.5",
    "optimiser.lr=3e-3",
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a KL loss, from its start to its end."""
    path = tmp_path_factory.mktemp("reference") / "run"
    run(quick(*SETTINGS), path)
    return path


def test_the_kl_is_of_the_model_as_rl_began(kept: Path) -> None:
    records = figures(kept, ("rl",))
    assert records[0]["kl_reference"] == pytest.approx(0.0, abs=1e-6)  # recorded by the sampler, of the same weights
    assert all(r["kl_reference"] > 1e-6 and r["kl_loss"] > 0 for r in records[1:])
    assert all(r["kept_share"] == 1 for r in records)  # uniform groups too are to stay near the reference


def test_a_resumed_run_measures_from_the_same_weights(kept: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(kept, copied, symlinks=True)
    for path in (copied / "checkpoints").glob("2-000000[34]"):
        shutil.rmtree(path)
    resume(copied)
    assert_same(kept, copied)


def test_without_the_folder_it_says_what_is_missing(kept: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(kept, copied, symlinks=True)
    shutil.rmtree(copied / "warmstart")
    for path in (copied / "checkpoints").glob("2-000000[34]"):
        shutil.rmtree(path)
    with pytest.raises(CheckpointError, match="the model as RL began"):
        resume(copied)


def test_all_processes_take_the_first_ones_word_for_whether_the_folder_is_there(tmp_path: Path) -> None:
    """Making it is done by all together: one that does not see it yet must not begin alone."""
    session = SimpleNamespace(
        config=quick(*SETTINGS),
        folder=SimpleNamespace(path=tmp_path),
        world=SimpleNamespace(only_first=lambda is_there: True),
        weights=SimpleNamespace(frozen=lambda folder: folder),
    )
    found = make_reference(session)  # type: ignore[arg-type]
    assert found is not None and found.policy == tmp_path / "warmstart"


def test_the_loss_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coefficient times Σ w·k is what the KL adds to the loss, either estimator; the reference is never trained."""
    losses: dict[str, Any] = {}
    for name, settings in {
        "none": (),
        "k2": ("algorithm.kl_estimator=k2",),
        "k3": (),
    }.items():
        coefficient = 0.0 if name == "none" else 0.25
        config = quick(
            *SETTINGS,
            f"algorithm.kl_coefficient={coefficient}",
            "optimiser.minibatch_responses=1000",
            "algorithm.skip_zero=false",
            *settings,
        )
        with monkeypatch.context() as patch, new_run(config, tmp_path / name, quiet()) as session:
            scored, plan = Recorded(patch, loop, "score"), Recorded(patch, loop, "make_plan")
            if coefficient:
                found = session.reference
                assert found is not None
                with torch.no_grad():
                    for parameter in found.policy.parameters():
                        parameter.mul_(1.5)  # as if the policy had moved away
                before = [p.clone() for p in found.policy.parameters()]
            losses[name] = (loop.rl_step(session, 0), scored.result, plan.result)
            if coefficient:
                assert all(torch.equal(a, b) for a, b in zip(before, found.policy.parameters()))
    plain = float(losses["none"][0]["loss"])
    for name in ("k2", "k3"):
        record, scores, made = losses[name]
        assert isinstance(scores, Scores) and scores.reference is not None
        delta = scores.reference - scores.logprobs
        estimate = {"k2": delta**2 / 2, "k3": delta.exp() - delta - 1}[name]
        expected = float((made.weights * estimate).sum())
        assert abs(expected) > 1e-3
        assert float(record["kl_loss"]) == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert float(record["loss"]) == pytest.approx(plain + 0.25 * expected, rel=1e-3, abs=1e-6)
        assert float(record["kl_reference"]) == pytest.approx(float((delta.exp() - delta - 1).mean()), rel=1e-3)


def test_responses_without_an_advantage_are_for_the_reference_and_the_entropy_bonus_too() -> None:
    batch, outcomes = build([group(episode(turn([1, 2], [3, 4]), turn([1, 5, 2], [3])), episode(turn([2], [4, 1])))])
    advantages = torch.tensor([1.0, 0.0, 0.0])
    everything = {"kl_coefficient": 0.1}, {"entropy_bonus": 0.1}
    for settings, kept in (({}, [True, False, False]), *((s, [True, True, True]) for s in everything)):
        plan = make_plan(batch, advantages, None, outcomes.terminated, AlgorithmConfig(**settings))
        assert plan.keep.tolist() == kept


def test_a_reward_penalty_reaches_the_estimator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick(*SETTINGS, "algorithm.estimator=reinforce_pp", "algorithm.kl_reward=0.3", "warmstart.steps=0")
    with new_run(config, tmp_path / "run", quiet()) as session:
        shaped = Recorded(monkeypatch, loop, "shape")
        scored = Recorded(monkeypatch, loop, "score")
        for step in range(2):
            session.finish_rl_step(step + 1, loop.rl_step(session, step))
        seen, scores = shaped.result[0], scored.result
        assert config.algorithm.estimator_options["kl_coefficient"] == 0.3
        assert torch.equal(seen.reference_kl, scores.logprobs - scores.reference) and seen.reference_kl.any()


def test_there_is_no_reference_where_nothing_is_measured_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_run(quick("warmstart.steps=0"), tmp_path / "run", quiet()) as session:
        monkeypatch.setattr(session.weights, "frozen", None)  # so that loading one fails
        record = loop.rl_step(session, 0)
        assert session.reference is None and "kl_reference" not in record
        assert not (session.folder.path / "warmstart").exists()


def test_with_adapters_the_model_without_them_is_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick(*SETTINGS, "scale.lora_rank=2", "warmstart.steps=0", "optimiser.lr=1e-2")
    with new_run(config, tmp_path / "run", quiet()) as session:
        monkeypatch.setattr(session.weights, "frozen", None)
        records = []
        for step in range(2):
            records.append(loop.rl_step(session, step))
            session.finish_rl_step(step + 1, records[-1])
        assert float(records[0]["kl_reference"]) == pytest.approx(0.0, abs=1e-6)
        assert float(records[1]["kl_reference"]) > 1e-6


def test_scores_do_not_depend_on_how_they_are_cut(kept: Path) -> None:
    batch, _ = build([group(episode(turn([1, 2], [3, 4]), turn([1, 5, 2], [3])), episode(turn([2], [4, 1])))])
    found = Reference(Policy(load_model(kept / "warmstart")))
    whole, cut = found.score(batch, 0.7, 1000), found.score(batch, 0.7, 1)
    assert not whole.requires_grad
    assert_close(cut, whole)


def test_a_penalty_that_no_estimator_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"kl_reward=0\.1 is a reward per token, which grpo"):
        quick("algorithm.kl_reward=0.1")
    quick("algorithm.kl_reward=0.1", "algorithm.estimator=my_module:mine")


def test_an_estimate_whose_gradient_is_zero_in_expectation_is_no_loss() -> None:
    with pytest.raises(ConfigError, match=r"kl_estimator=k1 .* set k2 or k3"):
        quick("algorithm.kl_coefficient=0.1", "algorithm.kl_estimator=k1")

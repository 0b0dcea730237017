"""The loop end to end on the toy recipe: it repeats, keeps the best weights, and stops with a cause."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from helpers import assert_same, figures, quick, quiet, run

from aem_agent.policies import make_policy
from trainer import loop, objective, policy, session, update
from trainer.advantages import Advantages, Signals, estimators, needs_critic
from trainer.batch import Batch
from trainer.config import AlgorithmConfig
from trainer.errors import NonFiniteError, ParityError
from trainer.losses import Loss, value_loss
from trainer.runs import new_run
from trainer.update import make_plan


def test_a_run_leaves_what_it_promises(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["steps"] == 4
    assert set(summary["before"]) == set(summary["after"]) == {"greedy", "sampled"}
    assert summary["before"]["greedy"]["n"] == 3
    rl = figures(whole, ("rl",))
    assert [r["step"] for r in rl] == [1, 2, 3, 4]
    for name in (
        "success",
        "token_entropy",
        "response_entropy",
        "alpha_q05",
        "alpha_q95",
        "guarded_share",
        "invalid_rate",
    ):
        assert name in rl[0], name
    updated = [r for r in rl if "grad_norm" in r]
    for name in ("clip_fraction", "approx_kl", "ratio_mean", "positive_mass", "negative_mass", "parity_error"):
        assert all(name in r for r in updated), name
    report = (whole / "report.html").read_text()
    for words in ("Success in evaluation", "Entropy", "Modulation", "Time per phase", "Episodes before RL"):
        assert words in report, words
    assert not list(whole.rglob("*.writing"))


def test_the_best_model_is_a_transformers_folder_that_evaluation_takes(whole: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(whole / "best")
    assert sum(p.numel() for p in model.parameters()) > 1000
    policy: Any = make_policy(str(whole / "best"))
    assert policy.spec.name == "plain" and policy.sampling.max_new_tokens == 8
    described = json.loads((whole / "best" / "aem.json").read_text())
    assert described["prompt"] == "plain" and described["sampling"]["temperature"] == 0.4


def test_same_seed_same_run_other_seed_other_run(whole: Path, tmp_path: Path) -> None:
    run(quick(), tmp_path / "again")
    assert_same(whole, tmp_path / "again")
    run(quick("seed=1", "warmstart.steps=2"), tmp_path / "other")
    assert figures(tmp_path / "other", ("rl",)) != figures(whole, ("rl",))


def test_ppo_with_a_critic_on_both_levels(tmp_path: Path) -> None:
    for level in ("turn", "token"):
        settings = ("algorithm.estimator=ppo", f"algorithm.gae_level={level}", "steps=2", "warmstart.steps=2")
        path = tmp_path / level
        run(quick(*settings, "rollout.group_size=1"), path)
        records = figures(path, ("rl",))
        assert all(r["value_error"] >= 0 and r["kept_share"] == 1 for r in records)
        assert records[0]["value_mean"] == 0, "a critic begins at 0"


def test_whole_episodes_are_one_sequence_each(tmp_path: Path) -> None:
    settings = ("model.prompt=plain-full", "model.prompt_options.compact=true", "rollout.whole_episodes=true")
    run(quick(*settings, "warmstart.whole_episodes=true", "steps=1"), tmp_path / "run")
    assert figures(tmp_path / "run", ("rl",))[0]["episodes"] == 4


def test_interim_evaluations_choose_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.9, 0.1])
    monkeypatch.setattr(session, "mean_success", lambda found: next(scores))
    run(quick("evaluation.every=2"), tmp_path / "run")
    assert (tmp_path / "run" / "best").resolve().name == "2-0000002"
    best = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert best and [r["step"] for r in figures(tmp_path / "run", ("evaluation",)) if r["when"] == "during"] == [
        2,
        2,
        4,
        4,
    ]


def test_nan_stops_with_a_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nan(*arguments: Any, **options: Any) -> policy.Said:
        said = original(*arguments, **options)
        return said._replace(logprobs=said.logprobs * torch.tensor(float("nan")))

    original = policy.Policy.forward
    monkeypatch.setattr(policy.Policy, "forward", nan)
    monkeypatch.setattr(update, "parity", lambda *_: {})
    with pytest.raises(NonFiniteError, match=r"loss became nan.*learning rate"):
        run(quick("rollout.tasks=8", "algorithm.invalid_penalty=1.0"), tmp_path / "run")


@pytest.mark.parametrize(("harm", "words"), [("value", "value loss"), ("gradient", "critic's gradient norm")])
def test_a_critic_gone_wrong_stops_before_any_weight_moves(
    harm: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harmed(values: torch.Tensor, *arguments: Any, **options: Any) -> Loss:
        loss = value_loss(values, *arguments, **options)
        wrong = values.sum() * torch.nan if harm == "value" else (values * 0).sum().sqrt()  # 0 with a slope of ∞ · 0
        return Loss(loss.value + wrong, loss.metrics)

    monkeypatch.setattr(objective, "value_loss", harmed)
    with new_run(quick("algorithm.estimator=ppo"), tmp_path / "run", quiet()) as session:
        before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
        with pytest.raises(NonFiniteError, match=f"{words} became nan"):
            loop.rl_step(session, 0)
        assert all(before[name].equal(tensor) for name, tensor in session.model.state_dict().items())


def test_stale_weights_in_the_engine_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = loop.score

    def shifted(*arguments: Any, **options: Any) -> Any:
        scores = original(*arguments, **options)
        return type(scores)(scores.logprobs - 0.01, scores.entropies)

    monkeypatch.setattr(loop, "score", shifted)
    with pytest.raises(ParityError, match=r"differ by 0\.01"):
        run(quick("algorithm.invalid_penalty=1.0"), tmp_path / "run")


def batch_of(lengths: list[int]) -> Batch:
    spans = torch.tensor([i for i, n in enumerate(lengths) for _ in range(n)])
    zeros = torch.zeros(len(lengths), dtype=torch.long)
    return Batch(torch.zeros(9), torch.tensor([0, 9]), torch.arange(len(spans)), spans, zeros, zeros, zeros)


def test_plan_skips_zero_advantages_and_says_what_it_averages_over() -> None:
    batch, advantages, ended = batch_of([1, 3]), torch.tensor([2.0, 0.0]), torch.tensor([True])
    kept = make_plan(batch, advantages, None, ended, AlgorithmConfig())
    assert kept.keep.tolist() == [True, False]
    assert kept.advantages.tolist() == [2, 0, 0, 0]
    assert kept.weights.tolist() == [1, 0, 0, 0]
    everything = make_plan(batch, advantages, None, ended, AlgorithmConfig(normaliser="all"))
    assert everything.weights.tolist() == [0.25, 0.25, 0.25, 0.25]
    assert make_plan(batch, advantages, None, ended, AlgorithmConfig(skip_zero=False)).keep.all()


def test_an_estimator_from_outside_can_ask_for_a_critic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(signals: Signals) -> Advantages:
        assert signals.values is not None and signals.final_values is not None
        return Advantages(signals.rewards - signals.values, "response", targets=signals.rewards)

    monkeypatch.setitem(estimators._entries, "mine", needs_critic(mine))
    run(quick("algorithm.estimator=mine", "steps=1", "warmstart.steps=2"), tmp_path / "run")
    assert all(record["value_error"] >= 0 for record in figures(tmp_path / "run", ("rl",)))


def test_a_loss_of_ones_own_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`algorithm.loss` names any function of the registry, and it is that one which is called."""
    from trainer.losses import losses, policy_loss

    seen: list[int] = []

    def mine(*args: Any, **options: Any) -> Any:
        seen.append(len(args[0]))
        return policy_loss(*args, **options)

    monkeypatch.setitem(losses._entries, "mine", mine)
    run(quick("steps=1", "algorithm.loss=mine"), tmp_path / "own")
    assert seen

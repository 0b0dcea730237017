"""AEM as the loop wires it: every option reaches `modulate`, and what `modulate` returns is what is trained on."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from helpers import figures, quick, quiet, run

from trainer import aem, loop
from trainer.advantages import penalise_invalid
from trainer.batch import Batch, Outcomes
from trainer.config import TrainConfig
from trainer.runs import new_run
from trainer.scoring import Scores

MIXED = ("rollout.tasks=6", "rollout.group_size=4", "algorithm.invalid_penalty=1.0", "aem.range_guard=0")
"""Settings with which an untrained model's step has advantages other than 0, and α other than 1."""


def one_step(config: TrainConfig, path: Path) -> dict[str, Any]:
    """An RL step of an untrained model."""
    with new_run(config, path, quiet()) as session:
        return loop.rl_step(session, 0)


class Recorded:
    """Calls of one of the loop's functions: the arguments of the last one, and what it returned."""

    def __init__(self, patch: pytest.MonkeyPatch, where: Any, name: str) -> None:
        self.function = getattr(where, name)
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}
        self.result: Any = None
        patch.setattr(where, name, self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.arguments, self.options = arguments, options
        result = self.function(*arguments, **options)
        self.result = dict(result) if isinstance(result, dict) else result  # as it was: the loop adds to some
        return result


@pytest.mark.parametrize(("estimator", "level"), [("grpo", "turn"), ("ppo", "turn"), ("ppo", "token")])
def test_what_is_trained_on_is_alpha_times_the_penalised_advantages(
    estimator: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modulate, plan = Recorded(monkeypatch, aem, "modulate"), Recorded(monkeypatch, loop, "make_plan")
    built, credited = Recorded(monkeypatch, loop, "build"), Recorded(monkeypatch, loop, "penalise_invalid")
    one_step(quick(*MIXED, f"algorithm.estimator={estimator}", f"algorithm.gae_level={level}"), tmp_path / "run")
    batch: Batch
    outcomes: Outcomes
    batch, outcomes = built.result
    credit, span = credited.arguments[0], batch.span_index
    per_token = estimator == "ppo" and level == "token"
    penalty = outcomes.invalid[span] if per_token else outcomes.invalid
    alpha: Tensor = modulate.result.alpha[span] if per_token else modulate.result.alpha
    trained: Tensor = plan.arguments[1]
    assert outcomes.invalid.any() and (alpha != 1).any()
    assert trained.equal(alpha * (credit - 1.0 * penalty))
    assert not trained.equal(credit) and not trained.equal(credit - 1.0 * penalty)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lam", "0.25", 0.25),
        ("scope", "trajectory", "trajectory"),
        ("scope", "batch", "batch"),
        ("direction", "reversed", "reversed"),
        ("shuffle", "true", True),
        ("shuffle_by_sign", "true", True),
        ("range_guard", "0.7", 0.7),
        ("sign_mask", "fall", "fall"),
        ("sign_mask", "rise", "rise"),
        ("sign_mask", "none", None),
    ],
)
def test_every_option_reaches_modulate(
    name: str, value: str, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modulate, built = Recorded(monkeypatch, aem, "modulate"), Recorded(monkeypatch, loop, "build")
    one_step(quick(f"aem.{name}={value}"), tmp_path / "run")
    batch: Batch = built.result[0]
    default = {"lam": 1.0, "scope": "group", "direction": "normal", "shuffle": False, "range_guard": 0.1}
    default["shuffle_by_sign"] = False
    assert {k: modulate.options[k] for k in (*default, "sign_mask")} == {**default, "sign_mask": None, name: expected}
    assert modulate.arguments[2].equal(batch.group_index)
    assert modulate.options["trajectory"].equal(batch.episode_index)


@pytest.mark.parametrize("proxy", ["mean_token_entropy", "mean_token_surprisal", "relative_surprisal"])
def test_the_proxy_decides_what_counts_as_uncertainty(
    proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modulate, scored = Recorded(monkeypatch, aem, "modulate"), Recorded(monkeypatch, loop, "score")
    built = Recorded(monkeypatch, loop, "build")
    one_step(quick(f"aem.proxy={proxy}"), tmp_path / "run")
    batch, scores = built.result[0], scored.result
    assert isinstance(scores, Scores)
    tokens = {
        "mean_token_entropy": scores.entropies,
        "mean_token_surprisal": -scores.logprobs,
        "relative_surprisal": -scores.logprobs - scores.entropies,
    }[proxy]
    means = torch.stack([tokens[batch.span_index == i].mean() for i in range(batch.n_responses)])
    torch.testing.assert_close(modulate.arguments[1], means)


@pytest.mark.parametrize(
    "settings", [(), ("aem.sign_mask=fall",), ("aem.shuffle=true", "aem.scope=batch"), ("aem.shuffle_by_sign=true",)]
)
def test_aem_off_trains_on_the_plain_advantages(
    settings: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credited = Recorded(monkeypatch, loop, "penalise_invalid")
    plan = Recorded(monkeypatch, loop, "make_plan")
    record = one_step(quick(*MIXED, "aem.enabled=false", *settings), tmp_path / "run")
    assert credited.function is penalise_invalid and credited.result.any()
    assert plan.arguments[1].equal(credited.result)
    assert record["alpha_q05"] == record["alpha_q95"] == 1.0


def test_no_metric_hides_another_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`positive_mass` is what the loss weighs, `positive_sum` what AEM returned: both are in the record."""
    found = [Recorded(monkeypatch, loop, name) for name in ("rollout_metrics", "update", "advantage_metrics")]
    modulate, plan = Recorded(monkeypatch, aem, "modulate"), Recorded(monkeypatch, loop, "make_plan")
    whole_batch = ("optimiser.minibatch_responses=1000", "steps=1", "warmstart.steps=0")
    run(quick(*MIXED, *whole_batch), tmp_path / "run")
    parts = [call.result for call in found] + [modulate.result.stats]
    names = [name for part in parts for name in part]
    assert len(names) == len(set(names))
    record, weighed = figures(tmp_path / "run", ("rl",))[0], plan.result.weights * plan.result.advantages
    assert record["positive_mass"] == pytest.approx(float(weighed.clamp_min(0).sum()))
    assert record["negative_mass"] == pytest.approx(float(weighed.clamp_max(0).sum()))
    after = modulate.result.advantages
    assert record["positive_sum"] == pytest.approx(float(after.clamp_min(0).sum()))
    assert record["negative_sum"] == pytest.approx(float(after.clamp_max(0).sum()))

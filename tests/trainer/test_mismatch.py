"""Importance weights between sampler and trainer: by hand, in the objective, and in runs."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parent))
import mixed_env  # noqa: F401  # registers test/Mixed-v0
from helpers import figures, quick, quiet, run
from test_aem_in_the_loop import Recorded

from trainer import loop
from trainer.batch import Batch, BatchError, Outcomes
from trainer.config import ConfigError, TrainConfig
from trainer.mismatch import mismatch_metrics, mismatch_weights
from trainer.runs import new_run

SPAN = torch.tensor([0, 0, 1, 2])
SAMPLED = torch.tensor([-1.0, -2.0, -1.5, -0.5])
RATIOS = torch.tensor([4.0, 0.5, 0.25, 3.5])
LOGPROBS = SAMPLED + RATIOS.log()

SETTINGS = ("env.id=test/Mixed-v0", "rollout.tasks=3", "rollout.group_size=4", "warmstart.steps=0", "steps=2")


def test_weights_by_hand() -> None:
    given = (LOGPROBS, SAMPLED, SPAN, 3)
    assert_close(mismatch_weights(*given, kind="truncate"), torch.tensor([2.0, 0.5, 0.25, 2.0]))
    assert_close(mismatch_weights(*given, kind="truncate", cap=3.75), torch.tensor([3.75, 0.5, 0.25, 3.5]))
    # responses: 4·½ = 2, ¼, 3.5 (above 3)
    assert_close(mismatch_weights(*given, kind="mask"), torch.tensor([2.0, 2.0, 0.25, 0.0]))
    assert_close(mismatch_weights(*given, kind="mask", cap=1.5), torch.tensor([0.0, 0.0, 0.25, 0.0]))
    assert mismatch_weights(*given, kind="none").tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="none, truncate or mask"):
        mismatch_weights(*given, kind="clip")  # type: ignore[arg-type]


def test_weights_are_constants_and_never_overflow() -> None:
    logprobs = (LOGPROBS + 1000).requires_grad_()
    for kind in ("truncate", "mask"):
        weights = mismatch_weights(logprobs, SAMPLED, SPAN, 3, kind=kind, cap=5.0)  # type: ignore[arg-type]
        assert weights.isfinite().all() and not weights.requires_grad


def test_metrics_by_hand() -> None:
    weights = mismatch_weights(LOGPROBS, SAMPLED, SPAN, 3, kind="mask")
    metrics = mismatch_metrics(weights, LOGPROBS, SAMPLED)
    assert_close(metrics["mismatch_weight_mean"], torch.tensor(4.25 / 4))
    assert_close(metrics["mismatch_masked"], torch.tensor(0.25))
    assert_close(metrics["mismatch_kl"], (RATIOS - 1 - RATIOS.log()).mean())  # k3 of KL(μ ‖ π_old), Δ = log r


def shifted(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """An engine whose recorded log-probs are all off by `by`."""
    build = loop.build

    def built(*arguments: Any, **options: Any) -> tuple[Batch, Outcomes]:
        batch, outcomes = build(*arguments, **options)
        assert batch.old_logprobs is not None
        return replace(batch, old_logprobs=batch.old_logprobs + by), outcomes

    monkeypatch.setattr(loop, "build", built)


def one_step(config: TrainConfig, path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with new_run(config, path, quiet()) as session:
        record = loop.rl_step(session, 0)
        return record, {k: v.clone() for k, v in session.model.state_dict().items()}


def test_the_loss_is_weighted_and_the_ratio_is_against_the_trainers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded log-probs are log 2 too high throughout: every token weighs a half, which Adam alone would not notice,
    so the metrics say it: mass is halved, and the ratio is 1 none the less."""
    whole = ("optimiser.minibatch_responses=1000",)
    plain, _ = one_step(quick(*SETTINGS, *whole), tmp_path / "plain")
    shifted(monkeypatch, math.log(2.0))
    record, _ = one_step(quick(*SETTINGS, *whole, "algorithm.mismatch=truncate"), tmp_path / "half")
    assert float(record["mismatch_weight_mean"]) == pytest.approx(0.5, abs=1e-4)
    assert float(record["mismatch_kl"]) == pytest.approx(math.log(2) - 0.5, abs=1e-4)
    for name in ("positive_mass", "negative_mass", "grad_norm"):
        assert float(record[name]) == pytest.approx(float(plain[name]) / 2, rel=1e-3)
    assert float(record["ratio_mean"]) == pytest.approx(1.0, abs=1e-5)
    assert float(record["parity_error"]) < 1e-4


def test_what_is_masked_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shifted(monkeypatch, -2.0)  # every response is far likelier for the trainer
    record, _ = one_step(quick(*SETTINGS, "algorithm.mismatch=mask"), tmp_path / "run")
    assert float(record["mismatch_masked"]) == 1.0 and float(record["grad_norm"]) == 0.0


@pytest.mark.parametrize("kind", ["truncate", "mask"])
def test_equal_log_probs_change_nothing_but_rounding(kind: str, tmp_path: Path) -> None:
    plain, weights = one_step(quick(*SETTINGS), tmp_path / "plain")
    record, corrected = one_step(quick(*SETTINGS, f"algorithm.mismatch={kind}"), tmp_path / kind)
    assert "mismatch_kl" not in plain
    assert float(record["mismatch_weight_mean"]) == pytest.approx(1.0, abs=1e-4)
    assert float(record["loss"]) == pytest.approx(float(plain["loss"]), abs=1e-5)
    for name in weights:
        assert_close(corrected[name], weights[name], atol=2e-4, rtol=0)  # a fifth of Adam's first step


def test_stale_rollouts_are_weighed_against_the_present_policy(tmp_path: Path) -> None:
    further = ("rollout.staleness=1", "algorithm.mismatch=truncate", "steps=3", "optimiser.lr=1e-2")
    run(quick(*SETTINGS, *further), tmp_path / "run")
    records = figures(tmp_path / "run", ("rl",))
    assert [r["staleness_max"] for r in records] == [0, 1, 1]
    assert records[0]["mismatch_kl"] < 1e-6 < 1e-4 < records[1]["mismatch_kl"]
    assert all(r["parity_error"] < 1e-4 for r in records)  # the first forward pass is that of the scores


def test_the_drift_logged_is_of_one_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollouts of a policy one update old, and no update after them: nothing has drifted. AEM keeps the sampler's
    entropies."""
    further = ("rollout.staleness=1", "algorithm.mismatch=truncate", "optimiser.lr=1e-2")
    with new_run(quick(*SETTINGS, *further), tmp_path / "run", quiet()) as session:
        moved = loop.rl_step(session, 0)
        session.finish_rl_step(1, moved)
        built, scored = Recorded(monkeypatch, loop, "build"), Recorded(monkeypatch, loop, "score")
        monkeypatch.setattr(loop, "update", lambda *_: {})
        still = loop.rl_step(session, 1)
    batch, scores = built.result[0], scored.result
    assert still["staleness_max"] == 1 and scores.entropies.equal(batch.entropies)
    assert (scores.own_entropies - scores.entropies).abs().max() > 1e-2
    for name in ("entropy_drift_measured", "entropy_drift_same_prefixes"):
        assert abs(float(moved[name])) > 1e-2 and abs(float(still[name])) < 1e-5


def test_an_engine_that_records_nothing_cannot_be_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = loop.build

    def built(*arguments: Any, **options: Any) -> tuple[Batch, Outcomes]:
        batch, outcomes = build(*arguments, **options)
        return replace(batch, old_logprobs=None), outcomes

    monkeypatch.setattr(loop, "build", built)
    with pytest.raises(BatchError, match=r"algorithm\.mismatch=none"):
        one_step(quick(*SETTINGS, "algorithm.mismatch=mask"), tmp_path / "run")


def test_a_cap_without_a_correction_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mismatch_cap=4\.0 bounds nothing"):
        quick("algorithm.mismatch_cap=4")

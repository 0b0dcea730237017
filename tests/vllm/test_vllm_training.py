"""Training with the real vLLM: rollouts, entropies that it does not give, AEM, the update, weights pushed into it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "trainer"))
from helpers import figures, quick, quiet
from test_aem_in_the_loop import MIXED, Recorded

from trainer import aem, loop
from trainer.runs import new_run

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

VLLM = (
    "rollout.engine=vllm",
    "rollout.engine_options.kv_cache_gib=0.25",
    "model.preset_options.head_dim=32",  # the least that its attention takes
    "optimiser.minibatch_responses=1000",
    "optimiser.lr=0.02",
)


def test_steps_of_training_with_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log-probs that vLLM recorded agree with the trainer's, before the update and after it was pushed."""
    scored, modulated = Recorded(monkeypatch, loop, "score"), Recorded(monkeypatch, aem, "modulate")
    pushed: list[int] = []
    with new_run(quick(*MIXED, *VLLM, "warmstart.steps=0"), tmp_path / "run", quiet()) as session:
        session.push_weights()
        before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
        for step in (0, 1):
            metrics = loop.rl_step(session, step)
            pushed.append(session.version)
            batch, scores = scored.arguments[1], scored.result
            assert batch.entropies is None and scores.logprobs is batch.old_logprobs
            assert float(scores.entropies.min()) > 0
            assert metrics["errors"] == 0 and float(metrics["parity_error"]) < 1e-4
            assert metrics["ratio_mean"] == pytest.approx(1, abs=1e-3)
            assert set(batch.versions.tolist()) == {step + 1}
            assert (modulated.result.alpha != 1).any()
        after = session.model.state_dict()
        assert max(float((before[name] - after[name]).abs().max()) for name in before) > 0.01
    assert pushed == [2, 3]


def test_a_run_with_vllm_and_rollouts_that_go_on_under_new_weights(tmp_path: Path) -> None:
    from trainer.loop import train

    config = quick(*VLLM, "rollout.staleness=1", "rollout.partial=true", "rollout.pool=processes", "rollout.workers=1")
    with new_run(config, tmp_path / "run", quiet()) as session:
        summary = train(session)
    assert summary["steps"] == 4
    records = figures(tmp_path / "run", ("rl",))
    assert [r["errors"] for r in records] == [0] * 4
    assert records[0]["staleness_max"] == 0 and max(r["staleness_max"] for r in records) == 1
    assert all(r["success"] is not None for r in figures(tmp_path / "run", ("evaluation",)))

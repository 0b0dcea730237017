"""The loop end to end on the toy recipe: it repeats, resumes bit for bit, and stops with a cause."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from helpers import QUICK, quick, resume, run

from aem_agent.policies import make_policy
from trainer import loop, session, update, warmstart
from trainer.advantages import Advantages, Signals, estimators, needs_critic
from trainer.batch import Batch
from trainer.config import AlgorithmConfig
from trainer.errors import CheckpointError, NonFiniteError, ParityError
from trainer.metrics import read_records
from trainer.update import make_plan


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(path / "checkpoints" / "2-0000004" / "model.safetensors")
    return found


def figures(path: Path, kinds: tuple[str, ...] = ("warmstart", "rl", "evaluation")) -> list[dict[str, Any]]:
    records = [r for r in read_records(path / "metrics.jsonl") if r["kind"] in kinds]
    return [{k: v for k, v in r.items() if not k.startswith("seconds_")} for r in records]


def assert_same(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    assert all(left[name].equal(right[name]) for name in left)
    assert figures(a) == figures(b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    run(quick(), path)
    return path


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
    for words in ("Held-out success", "Entropy", "Modulation", "Time per phase", "Episodes before RL"):
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


def test_resuming_a_finished_run_changes_nothing(whole: Path) -> None:
    before = weights(whole)
    summary = resume(whole)
    assert summary["steps"] == 4
    assert all(before[name].equal(tensor) for name, tensor in weights(whole).items())


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from helpers import quick, run
from trainer import loop, warmstart
original, steps = {module}.{name}, 0
def step(*arguments, **options):
    global steps
    steps += 1
    if steps > {after}:
        os.kill(os.getpid(), signal.{signal})
    return original(*arguments, **options)
{module}.{name} = step
run(quick({settings}), Path(sys.argv[1]))
"""


def killed(path: Path, module: str, name: str, after: int, signal_name: str = "SIGKILL", settings: str = "") -> int:
    """Run until `name` was called `after` times, then send the signal; returns the exit code."""
    code = KILLED.format(
        here=str(Path(__file__).parent), module=module, name=name, after=after, signal=signal_name, settings=settings
    )
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, timeout=120).returncode


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name", "after"), [("loop", "rl_step", 3), ("warmstart", "clone_step", 3)])
def test_kill_9_and_resume_equals_an_uninterrupted_run(
    whole: Path, tmp_path: Path, module: str, name: str, after: int
) -> None:
    path = tmp_path / "killed"
    assert killed(path, module, name, after) == -signal.SIGKILL
    resume(path)
    assert_same(whole, path)


def test_resume_between_2_and_4_steps_in_one_process(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = loop.rl_step, []

    def step(*arguments: Any) -> dict[str, Any]:
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(loop, "rl_step", step)
    path = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run(quick(), path)
    assert figures(path, ("rl",))[-1]["step"] == 3  # step 3 is after the checkpoint of step 2 and done again
    resume(path)
    assert_same(whole, path)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (warmstart, "clone_step"),
        (warmstart, "play_experts"),
        (loop, "build"),
        (loop, "update"),
        (session, "evaluation_of"),
    ],
)
def test_ctrl_c_in_every_phase_leaves_a_run_that_resumes(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(where, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(quick(), path)
    resume(path)
    assert_same(whole, path)


def test_ppo_with_a_critic_on_both_levels(tmp_path: Path) -> None:
    for level in ("turn", "token"):
        settings = ("algorithm.estimator=ppo", f"algorithm.gae_level={level}", "steps=2", "warmstart.steps=2")
        path = tmp_path / level
        run(quick(*settings, "rollout.group_size=1"), path)
        records = figures(path, ("rl",))
        assert all(r["value_error"] >= 0 and r["kept_share"] == 1 for r in records)


def test_the_critic_resumes_too(tmp_path: Path) -> None:
    settings = ("algorithm.estimator=ppo", "checkpoint.every=1", "steps=3", "warmstart.steps=2")
    run(quick(*settings), tmp_path / "whole")
    path = tmp_path / "killed"
    code = killed(path, "loop", "rl_step", 2, settings=", ".join(map(repr, settings)))
    assert code == -signal.SIGKILL
    resume(path)
    assert figures(path) == figures(tmp_path / "whole")


def test_whole_episodes_are_one_sequence_each(tmp_path: Path) -> None:
    settings = ("model.prompt=plain-full", "model.prompt_options.compact=true", "rollout.whole_episodes=true")
    run(quick(*settings, "warmstart.whole_episodes=true", "steps=1"), tmp_path / "run")
    assert figures(tmp_path / "run", ("rl",))[0]["episodes"] == 4


def test_aem_off_is_alpha_one(tmp_path: Path) -> None:
    run(quick("aem.enabled=false", "steps=1"), tmp_path / "run")
    record = figures(tmp_path / "run", ("rl",))[0]
    assert record["alpha_q05"] == record["alpha_q95"] == 1.0


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


def test_the_best_weights_and_their_score_stay_together_when_a_run_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after the export of step 3 and before the checkpoint of step 4: step 3 is done again, and may do worse."""
    original, path = loop.rl_step, tmp_path / "run"

    def cut(running: Any, step: int) -> dict[str, Any]:
        if step == 3:
            raise KeyboardInterrupt
        return original(running, step)

    scores = iter([0.5, 0.3, 0.9, 0.4, 0.6])
    monkeypatch.setattr(session, "mean_success", lambda found: next(scores))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "rl_step", cut)
        run(quick("evaluation.every=1"), path)
    chosen = (path / "best" / "model.safetensors").read_bytes()
    resume(path)
    assert (path / "best").resolve().name == "2-0000003"
    assert (path / "best" / "model.safetensors").read_bytes() == chosen
    assert json.loads((path / "best" / "score.json").read_text()) == 0.9
    (path / "best" / "score.json").write_text("nine")
    with pytest.raises(CheckpointError, match=r"score\.json"):
        resume(path)


def test_nan_stops_with_a_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nan(*arguments: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs, entropies = original(*arguments, **options)
        return logprobs * torch.tensor(float("nan")), entropies

    original = update.response_scores
    monkeypatch.setattr(update, "response_scores", nan)
    monkeypatch.setattr(update, "_parity", lambda *_: torch.tensor(0.0))
    with pytest.raises(NonFiniteError, match=r"loss became nan.*learning rate"):
        run(quick("rollout.tasks=8", "algorithm.invalid_penalty=1.0"), tmp_path / "run")


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
    batch, advantages = batch_of([1, 3]), torch.tensor([2.0, 0.0])
    kept = make_plan(batch, advantages, None, AlgorithmConfig())
    assert kept.keep.tolist() == [True, False]
    assert kept.advantages.tolist() == [2, 0, 0, 0]
    assert kept.weights.tolist() == [1, 0, 0, 0]
    everything = make_plan(batch, advantages, None, AlgorithmConfig(normaliser="all"))
    assert everything.weights.tolist() == [0.25, 0.25, 0.25, 0.25]
    assert make_plan(batch, advantages, None, AlgorithmConfig(skip_zero=False)).keep.all()


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom trainer import cli, loop\n"
        "def stop(*a): raise KeyboardInterrupt\n"
        "loop.rl_step = stop\ncli.main()"
    )
    settings = [word for setting in QUICK for word in ("--set", setting)]
    out = tmp_path / "run"
    command = [sys.executable, "-c", code, "run", "toy", "--out", str(out), *settings]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 130
    assert f"aem-train resume {out}" in done.stderr


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

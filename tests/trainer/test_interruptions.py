"""Runs that are cut off anywhere, by an exception or `kill -9`, go on and end as an uninterrupted one does."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import assert_same, figures, quick, resume, run, weights

from trainer import loop, session, warmstart
from trainer.errors import CheckpointError


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [("algorithm.estimator=ppo",), ("algorithm.kl_coefficient=0.01",), ("scale.lora_rank=2", "scale.shard=true")],
    ids=["critic", "reference", "adapters"],
)
def test_kill_9_after_two_of_four_steps_loses_nothing_of(more: tuple[str, ...], tmp_path: Path) -> None:
    settings = (*more, "checkpoint.every=1", "steps=4", "warmstart.steps=2")
    run(quick(*settings), tmp_path / "whole")
    path = tmp_path / "killed"
    code = killed(path, "loop", "rl_step", 2, settings=", ".join(map(repr, settings)))
    assert code == -signal.SIGKILL
    assert [r["step"] for r in figures(path, ("rl",))] == [1, 2]
    resume(path)
    assert_same(tmp_path / "whole", path)


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


@pytest.mark.parametrize("more", [(), ("rollout.oversample=1.7",), ("algorithm.estimator=rloo",)])
def test_dynamic_sampling_resumes_exactly(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (
        "env.id=staged_env:test/Staged-v0",
        "warmstart.steps=0",
        "rollout.dynamic=true",
        "rollout.tasks=3",
        "rollout.group_size=3",
        "rollout.concurrency=5",
        "evaluation.tasks=1",
    )
    original, path = loop.rl_step, tmp_path / "cut"

    def cut(running: Any, step: int) -> dict[str, Any]:
        if step == 3:
            raise KeyboardInterrupt
        return original(running, step)

    run(quick(*settings, *more), tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "rl_step", cut)
        run(quick(*settings, *more), path)
    resume(path)
    assert_same(tmp_path / "whole", path)
    assert any(r["groups_rejected"] for r in figures(path, ("rl",)))


@pytest.mark.slow
@pytest.mark.parametrize("partial", ["false", "true"])
def test_kill_9_with_rollouts_ahead_loses_what_came_after_the_checkpoint(partial: str, tmp_path: Path) -> None:
    path = tmp_path / "killed"
    settings = ("rollout.staleness=1", f"rollout.partial={partial}", "warmstart.steps=0")
    assert killed(path, "loop", "update", 3, settings=", ".join(map(repr, settings))) == -signal.SIGKILL
    assert [r["step"] for r in figures(path, ("rl",))] == [1, 2, 3]
    resume(path)
    records = figures(path, ("rl",))
    assert [r["step"] for r in records] == [1, 2, 3, 4]
    assert records[2]["staleness_max"] == 0 and records[3]["staleness_max"] <= 1, "begun anew at the saved step"

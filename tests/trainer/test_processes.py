"""Runs of two processes on CPUs (gloo): the same as of one, and all processes end together, whatever happens."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from helpers import QUICK, figures, quick, resume, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]

LEARNING = (
    "algorithm.estimator=ppo",
    "warmstart.steps=12",
    "warmstart.save_every=12",
    "rollout.group_size=4",
    "optimiser.lr=1e-4",
    "checkpoint.every=1",
    "steps=3",
)
"""Three RL steps with a critic, from a start that plays well enough to learn something."""

TWO = ("scale.processes=2",)
SHARDED = (*TWO, "scale.shard=true")
LAST = "2-0000003"


def command(*words: str | Path, **environment: str) -> "subprocess.Popen[str]":
    """`aem-train`, with the modules of this folder in reach."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent), **environment},
    )


def begun(path: Path, *settings: str) -> "subprocess.Popen[str]":
    words = [word for setting in (*QUICK, *LEARNING, *settings) for word in ("--set", setting)]
    return command("run", "toy", "--out", path, *words)


def done(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that others are compared with."""
    path = tmp_path_factory.mktemp("processes") / "alone"
    run(quick(*LEARNING), path)
    return path


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes") / "sharded"
    code, said = done(begun(path, *SHARDED))
    assert code == 0, said
    return path


def weights(path: Path, step: str = LAST) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(path / "checkpoints" / step / "model.safetensors")
    return found


def largest_difference(a: Path, b: Path, step: str = LAST) -> float:
    one, other = weights(a, step), weights(b, step)
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def trajectories(path: Path) -> list[Any]:
    kept = ("step", "success", "return_mean", "response_tokens", "turns_mean", "invalid_rate", "data_hash")
    return [{k: r[k] for k in kept if k in r} for r in figures(path, ("rl", "evaluation"))]


def assert_equal_to_rounding(path: Path, alone: Path) -> None:
    moved = max(float((weights(alone)[n] - w).abs().max()) for n, w in weights(alone, "2-0000000").items())
    assert largest_difference(path, alone) < 1e-5 < 1e-4 < moved
    assert trajectories(path) == trajectories(alone)
    for one, other in zip(figures(path), figures(alone), strict=True):
        assert one.keys() == other.keys()
        numbers = {k: v for k, v in other.items() if isinstance(v, float) and not k.startswith("flops_")}
        assert {k: one[k] for k in numbers} == pytest.approx(numbers, rel=1e-3, abs=1e-4)


def test_two_sharded_processes_do_what_one_does(alone: Path, sharded: Path) -> None:
    assert largest_difference(sharded, alone, "2-0000000") < 1e-6, "the warm start too"
    assert_equal_to_rounding(sharded, alone)
    assert sorted(p.name for p in sharded.iterdir()) == sorted(p.name for p in alone.iterdir())


def cut_back(path: Path, to: Path) -> Path:
    """A copy of a run as it was after its first RL step."""
    shutil.copytree(path, to, symlinks=True)
    for name in ("2-0000002", LAST):
        shutil.rmtree(to / "checkpoints" / name)
    return to


def test_what_two_have_saved_one_continues(alone: Path, sharded: Path, tmp_path: Path) -> None:
    path = cut_back(sharded, tmp_path / "run")
    resume(path)
    assert_equal_to_rounding(path, alone)


def test_what_one_has_saved_two_continue(alone: Path, tmp_path: Path) -> None:
    path = cut_back(alone, tmp_path / "run")
    code, said = done(command("resume", path, "--processes", "2"))
    assert code == 0, said
    assert_equal_to_rounding(path, alone)


def test_half_precision_with_the_first_process_playing(tmp_path: Path) -> None:
    settings = (*SHARDED, "scale.precision=bfloat16", "scale.rollouts=first", "rollout.dynamic=true", "steps=2")
    settings += ("scale.lora_rank=2", "scale.checkpoint_activations=true", "algorithm.kl_coefficient=0.01")
    code, said = done(begun(tmp_path / "run", *settings))
    assert code == 0, said
    assert {w.dtype for w in weights(tmp_path / "run", "2-0000002").values()} == {torch.float32}
    best = (tmp_path / "run" / "best").resolve()
    assert {w.dtype for w in load_file(best / "model.safetensors").values()} == {torch.bfloat16}
    adapter = load_file(best / "adapter" / "adapter_model.safetensors")
    assert adapter["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"].equal(
        weights(tmp_path / "run", best.name)["blocks.0.down.lora_B.default.weight"]
    )
    assert len(figures(tmp_path / "run", ("rl",))) == 2


def test_the_first_ctrl_c_saves_the_step_of_all(alone: Path, tmp_path: Path) -> None:
    """Replicated, not sharded. What is saved goes on in one process."""
    path = tmp_path / "run"
    settings = (*TWO, "checkpoint.every=100", "algorithm.loss=odd_losses:ctrl_c_in_the_first_step")
    process = begun(path, *settings)
    with ended(process):
        code, said = done(process)
    assert code == 130, said
    assert said.count("interrupted: finishing the step in hand") == 1
    assert said.count("all that was done is saved") == 1
    assert max(p.name for p in (path / "checkpoints").iterdir()) == "2-0000001"
    assert [r["step"] for r in figures(path, ("rl",))] == [1]
    resume(path)
    assert_equal_to_rounding(path, alone)


def test_what_is_not_finite_on_one_process_ends_both(tmp_path: Path) -> None:
    process = begun(tmp_path / "run", *TWO, "warmstart.steps=0", "algorithm.loss=odd_losses:nan_on_the_second")
    with ended(process):
        code, said = done(process)
    assert code == 2
    assert "\nerror: RL step 1: loss became nan in an optimiser step" in said, "the first process says so"
    assert weights(tmp_path / "run", "2-0000000") and not list(tmp_path.glob("run/checkpoints/2-0000001"))


def test_nothing_is_left_when_the_launcher_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = begun(path, *TWO, "warmstart.steps=100000")
    with ended(process) as children:
        wait_until(lambda: (path / "metrics.jsonl").exists() and bool(figures(path, ("warmstart",))), process)
        started = children()
        assert len(started) == 2
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(alive, started)))


# -- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[Callable[[], list[int]]]:
    """Nothing of it is left behind, by a test that fails either. Yields what tells its children."""
    seen: set[int] = set()

    def children() -> list[int]:
        found = [int(p.name) for p in Path("/proc").glob("[0-9]*") if parent(int(p.name)) == process.pid]
        seen.update(found)
        return found

    try:
        yield children
    finally:
        left = [pid for pid in {*seen, *children(), process.pid} if process.poll() is None or alive(pid)]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def state(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def parent(pid: int) -> int | None:
    found = state(pid)
    return int(found[1]) if found else None


def alive(pid: int) -> bool:
    return state(pid)[:1] not in ([], ["Z"])


def wait_until(holds: Callable[[], bool], process: "subprocess.Popen[str] | None" = None) -> None:
    for _ in range(1200):
        if holds():
            return
        assert process is None or process.poll() is None, "it ended before"
        time.sleep(0.05)
    raise AssertionError("it never came to that")

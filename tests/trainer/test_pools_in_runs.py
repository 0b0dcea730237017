"""Runs whose environments live in worker processes: the same tasks, and no process outlives them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet, run

from trainer import loop
from trainer.runs import new_run

PROCESSES = ("rollout.pool=processes", "rollout.workers=1", "warmstart.steps=0")
INLINE = ("rollout.pool=inline", "rollout.workers=none")


def children(pid: int) -> set[int]:
    """Processes started by `pid`, and by those."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            mine = {int(child) for child in task.read_text().split()}
        except OSError:
            continue
        found |= mine.union(*map(children, mine))
    return found


def test_an_rl_step_plays_the_same_episodes_in_worker_processes(tmp_path: Path) -> None:
    before = children(os.getpid())
    played: dict[str, list[object]] = {"processes": [], "inline": []}
    for pool, episodes in played.items():
        settings = (*PROCESSES, *(INLINE if pool == "inline" else ()))
        with new_run(quick(*settings), tmp_path / pool, quiet()) as session:
            for step in (0, 1):
                groups = session.collect(step).groups
                episodes += [(e.task_id, e.seed, [t.action for t in e.turns]) for g in groups for e in g.episodes]
            workers = children(os.getpid()) - before
            assert bool(workers) == (pool == "processes"), "workers are kept from step to step"
        assert children(os.getpid()) <= before
    assert played["processes"] == played["inline"] and len(played["inline"]) == 8


def test_no_process_outlives_a_run_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children(os.getpid())

    def failing(*_: object, **__: object) -> None:
        assert children(os.getpid()) - before
        raise ValueError("as told")

    monkeypatch.setattr(loop, "build", failing)
    with pytest.raises(ValueError, match="as told"):
        run(quick(*PROCESSES, "evaluation.tasks=1"), tmp_path / "run")
    assert children(os.getpid()) <= before


RUNNING = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from helpers import quick, quiet
from trainer import cli
from trainer.runs import new_run
out = Path(sys.argv[1])
sys.exit(cli._train(new_run(quick({settings}), out, quiet()), out))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "staleness"), [(signal.SIGINT, 1), (signal.SIGKILL, 0)])
def test_no_process_outlives_an_interrupted_command(number: signal.Signals, staleness: int, tmp_path: Path) -> None:
    settings = (*PROCESSES, f"rollout.staleness={staleness}", "steps=100000", "checkpoint.every=10")
    code = RUNNING.format(here=str(Path(__file__).parent), settings=", ".join(map(repr, settings)))
    run = tmp_path / "run"
    command = subprocess.Popen([sys.executable, "-c", code, str(run)], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(2400):
            if command.poll() is not None or list(run.glob("checkpoints/2-00000[1-9]*")):
                break
            time.sleep(0.05)
        started = children(command.pid)
        assert started
        command.send_signal(number)
        _, said = command.communicate(timeout=60)
    finally:
        command.kill()
    assert command.returncode == (130 if number is signal.SIGINT else -signal.SIGKILL), said
    if number is signal.SIGINT:
        assert f"aem-train resume {run}" in said
    for _ in range(200):
        if not any(Path(f"/proc/{pid}").exists() for pid in started):
            return
        time.sleep(0.05)
    pytest.fail(f"processes {started} are still there")

"""Ctrl-C of `aem-train`: the first finishes and saves what is in hand, the second stops at once."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import QUICK, assert_same, figures, quick, resume, run

from aem_agent.engines.fake import FakeTokenEngine
from trainer.background import BackgroundLoop
from trainer.producer import Producer

COMMAND = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from helpers import quick, quiet
from trainer import cli, loop, session, warmstart
from trainer.collecting import Collector
from trainer.runs import new_run
original, calls = {module}.{name}, 0
def called(*arguments, **options):
    global calls
    calls += 1
    if calls == {after}:
        for _ in range({times}):
            os.kill(os.getpid(), signal.SIGINT)
    return original(*arguments, **options)
{module}.{name} = called
out = Path(sys.argv[1])
sys.exit(cli._train(new_run(quick({settings}), out, quiet()), out))
"""


def commanded(
    path: Path, module: str, name: str, after: int, *, times: int = 1, settings: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """`aem-train` that gets `times` SIGINTs when `name` is called for the `after`-th time."""
    code = COMMAND.format(
        here=str(Path(__file__).parent),
        module=module,
        name=name,
        after=after,
        times=times,
        settings=", ".join(map(repr, settings)),
    )
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)


INTERIM = ("evaluation.every=1", "evaluation.interim_tasks=2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "after", "done"),
    [
        ("warmstart", "clone_step", 3, None),  # between two records of the warm start and two of its checkpoints
        ("Collector", "collect", 3, 3),
        ("loop", "update", 1, 1),
        ("session.Session", "push_weights", 4, 3),  # the first is before the evaluation
        ("session", "evaluation_of", 3, 1),  # the first of the evaluation after step 1
    ],
)
def test_the_first_ctrl_c_finishes_the_step_in_hand_and_loses_nothing(
    module: str, name: str, after: int, done: int | None, tmp_path: Path
) -> None:
    path, whole = tmp_path / "cut", tmp_path / "whole"
    settings = (*INTERIM, "warmstart.save_every=100", "checkpoint.every=100")
    run(quick(*settings), whole)
    command = commanded(path, module, name, after, settings=settings)
    assert command.returncode == 130, command.stderr
    assert "Ctrl-C again stops at once" in command.stderr
    assert command.stderr.endswith(f"all that was done is saved: continue with `aem-train resume {path}`\n")
    saved = max((path / "checkpoints").iterdir()).name
    assert saved == ("0-0000003" if done is None else f"2-{done:07d}")
    assert [r["step"] for r in figures(path, ("rl",))] == list(range(1, (done or 0) + 1))
    resume(path)
    assert_same(whole, path)


@pytest.mark.slow
def test_the_first_ctrl_c_does_not_wait_for_rollouts_ahead(tmp_path: Path) -> None:
    path = tmp_path / "run"
    settings = ("rollout.staleness=2", "checkpoint.every=100", "steps=8")
    command = commanded(path, "loop", "update", 3, settings=settings)
    assert command.returncode == 130, command.stderr
    assert max((path / "checkpoints").iterdir()).name == "2-0000003"
    resume(path)
    assert [r["step"] for r in figures(path, ("rl",))] == list(range(1, 9))


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), [("loop", "update"), ("warmstart", "clone_step")])
def test_the_second_ctrl_c_stops_at_once(module: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    command = commanded(path, module, name, 2, times=2, settings=("warmstart.save_every=100", "checkpoint.every=100"))
    assert command.returncode == 130, command.stderr
    assert f"the last checkpoint is kept: continue with `aem-train resume {path}`" in command.stderr
    found = [r["step"] for r in figures(path, ("rl",))]
    assert found == ([1] if name == "update" else [])
    assert not list(path.glob("checkpoints/2-0000002")) and not list(path.glob("checkpoints/0-0000002"))
    resume(path)
    assert [r["step"] for r in figures(path, ("rl",))] == [1, 2, 3, 4]


def test_a_collection_that_was_dropped_is_begun_anew_if_it_is_needed_after_all() -> None:
    """Ctrl-C between two steps: the rollouts of the step that then begins were ahead a moment before."""
    began: list[int] = []
    ahead = threading.Event()

    async def collect(step: int) -> int:
        began.append(step)
        if began == [0, 1]:
            ahead.set()
            await asyncio.Event().wait()
        return step

    background = BackgroundLoop()
    try:
        producer = Producer(background, collect, FakeTokenEngine(), steps=9, staleness=2)
        assert producer.take(0) == 0
        assert ahead.wait(30)
        producer.stop()
        assert producer.take(1) == 1
        assert began == [0, 1, 1], "and none beyond it"
        producer.close()
        assert background.call(lambda: len(asyncio.all_tasks())) == 2, "the loop itself and this call"
    finally:
        background.close()


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

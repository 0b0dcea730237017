"""The real engine's worker process: sharing, time limits, refusals, and that it never outlives its parent."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from games_special import odd_goal, slicing

from aem_envs.alfworld.real import RealEngineError, RealEngineMissingError, RealGame, RealWorker
from envs_data.alfworld.export import installed_rules
from envs_data.alfworld.problem import Problem
from envs_data.alfworld.tw_pddl import render_game
from envs_data.errors import GameFileError

needs_engine = pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="textworld is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.realengine, needs_engine]


def text_of(problem: Problem) -> str:
    rules = installed_rules()
    return render_game(problem, domain=rules.domain, grammar=rules.grammar)


def gone(pid: int, seconds: float) -> bool:
    """The process has ended (or is an unreaped corpse) within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_two_games_live_in_one_worker(tmp_path: Path) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_text(text_of(slicing("current")))
    worker = RealWorker()
    argv, stdout = list(sys.argv), sys.stdout
    with RealGame(path, worker=worker) as one, RealGame(text_of(odd_goal("current", "either")), worker=worker) as two:
        assert one.reset().startswith("-= Welcome") and "cabinet 1" in two.reset()
        assert (
            one.step("go to fridge 1")
            == two.step("go to fridge 1")
            == "You arrive at fridge 1. The fridge 1 is closed."
        )
        assert two.step("open fridge 1").startswith("You open the fridge 1.")
        assert (one.won, one.score, two.won, two.score) == (False, 0, True, 1)
        assert one.step("nonsense") == one.step("") == "Nothing happens."
        assert "open fridge 1" in one.admissible() and "close fridge 1" in two.admissible()
    assert (sys.argv, sys.stdout) == (argv, stdout)
    pid = worker.pid
    worker.close()
    worker.close()
    assert gone(pid, 5) and not worker.alive
    with pytest.raises(RealEngineError, match="has ended"):
        one.step("look")


def test_refused_games_leave_the_worker_alive(tmp_path: Path) -> None:
    worker = RealWorker()
    for bad in ("{}", "not json", text_of(slicing("current")).replace("gotoLocation", "x").replace("(:init", "(:nit")):
        with pytest.raises(GameFileError, match="the real engine refuses it"):
            RealGame(bad, worker=worker)
    with pytest.raises(GameFileError, match="cannot be read"):
        RealGame(tmp_path / "absent", worker=worker)
    with pytest.raises(GameFileError, match="not UTF-8"):
        RealGame(b"\xff", worker=worker)
    assert worker.alive
    worker.close()


def test_slow_answers_end_the_worker() -> None:
    worker = RealWorker()
    with pytest.raises(RealEngineError, match=r"more than 0.05 s to load"):
        RealGame(text_of(slicing("current")), worker=worker, load_timeout=0.05)
    assert not worker.alive and gone(worker.pid, 5)


def test_a_killed_worker_is_an_error_not_a_hang() -> None:
    worker = RealWorker()
    with RealGame(text_of(slicing("current")), worker=worker) as game:
        game.reset()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(RealEngineError, match=r"broke|has ended"):
            game.step("look")


def test_the_worker_dies_with_its_parent() -> None:
    """Even after `kill -9`, and while a sibling still holds the pipe open."""
    program = (
        "import os, sys, time\n"
        "from aem_envs.alfworld.real import RealWorker\n"
        "worker = RealWorker()\n"
        "sibling = os.fork()\n"
        "if sibling == 0:\n"
        "    time.sleep(20); os._exit(0)\n"
        "print(worker.pid, sibling, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    worker, sibling = map(int, parent.stdout.readline().split())
    try:
        assert not gone(worker, 0.5)
        parent.kill()
        parent.wait()
        assert gone(worker, 10)
    finally:
        os.kill(sibling, signal.SIGKILL)
        parent.stdout.close()


def test_a_forked_child_cannot_use_the_worker() -> None:
    worker = RealWorker()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            worker.ask({"do": "reset", "game": 0}, 1.0)
        except RealEngineError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert "process that was forked from" in pipe.read()
    assert worker.alive
    worker.close()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RealEngineMissingError, match=r"pip install .*alfworld"):
        RealWorker()

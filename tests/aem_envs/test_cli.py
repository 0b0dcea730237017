"""`aem-envs`: what it prints, its exit codes, playing by pipe and at a terminal, Ctrl-C, the time of `--help`."""

import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from aem_envs import make_env
from aem_envs.play import Player
from aem_suite.envs_cli import main

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "aem_suite.envs_cli"]
THIRD_PARTY = """
    import gymnasium as gym
    from aem_envs.toy import ToyEnv

    class LoudEnv(ToyEnv):
        '''A toy that shouts.'''
        def _look(self):
            return super()._look().upper()

    class RudeEnv(ToyEnv):
        '''A toy that raises.'''
        def step(self, action):
            return super().step(action.strip())

    gym.register("loud/Loud-v0", LoudEnv, order_enforce=False, disable_env_checker=True)
    gym.register("loud/Rude-v0", RudeEnv, order_enforce=False, disable_env_checker=True)
"""


def run(*arguments, stdin=""):
    """Exit code, output and error output of `aem-envs` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, text=True, env=environment, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def call(capsys, *arguments):
    """The same within this process."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    import gymnasium as gym

    (tmp_path / "loud_games.py").write_text(textwrap.dedent(THIRD_PARTY))
    monkeypatch.syspath_prepend(tmp_path)
    yield "loud_games"
    sys.modules.pop("loud_games", None)
    for env_id in ("loud/Loud-v0", "loud/Rude-v0"):
        gym.registry.pop(env_id, None)


def test_help_answers_at_once():
    def seconds():
        """Processor time: on a busy machine the clock says nothing."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code, out, _ = run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert code == 0 and "play" in out
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3


def test_ls(capsys):
    code, out, _ = call(capsys, "ls")
    assert code == 0 and "aem/Toy-v0" in out and "aem/ALFWorld-v0" in out
    code, out, _ = call(capsys, "ls", "--json")
    assert {"aem/Toy-v0", "aem/ALFWorld-v0"} <= {entry["id"] for entry in json.loads(out)}


def test_info_describes_arguments_splits_and_experts(capsys):
    code, out, _ = call(capsys, "info", "aem/Toy-v0")
    assert code == 0 and "max_steps=50" in out and "test: 29 tasks" in out and "Experts: expert" in out
    code, out, _ = call(capsys, "info", "aem/ALFWorld-v0", "--env", "size=medium", "--json")
    found = json.loads(out)
    assert found["splits"]["train"] == {"tasks": None, "first": [f"medium/train/00000{n}" for n in range(3)]}
    assert found["capabilities"]["snapshot"] and "engine" in found["arguments"]


def test_check_prints_a_table_and_fails_with_1(capsys, third_party):
    code, out, _ = call(capsys, "check", "aem/Toy-v0")
    assert code == 0 and "all 11 checks passed" in out and "snapshots" in out
    code, out, _ = call(capsys, "check", f"{third_party}:loud/Loud-v0", f"{third_party}:loud/Rude-v0", "--json")
    report = json.loads(out)
    assert code == 1
    assert not any(report["loud_games:loud/Loud-v0"].values())
    assert "AttributeError" in report["loud_games:loud/Rude-v0"]["bad actions"]


def test_third_parties_are_listed_and_played(capsys, third_party, monkeypatch):
    import io

    code, out, _ = call(capsys, "ls", third_party)
    assert code == 0 and "A toy that shouts." in out
    monkeypatch.setattr(sys, "stdin", io.StringIO("go east\n"))
    code, out, _ = call(capsys, "play", f"{third_party}:loud/Loud-v0", "--task", "rooms3-start1-red")
    assert code == 0 and "YOU ARE IN ROOM 2 OF 3." in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["play", "aem/Nothing-v0"], "Nothing"),
        (["play", "no_such_module:X-v0"], "no_such_module"),
        (["play", ":aem/Toy-v0"], "module:EnvId"),
        (["play", "CartPole-v1"], "not a TextEnv"),
        (["play", "aem/Toy-v0", "--env", "max_stpes=3"], "max_stpes"),
        (["play", "aem/Toy-v0", "--env", "max_steps"], "KEY=VALUE"),
        (["play", "aem/Toy-v0", "--env", "max_steps=0"], "at least 1"),
        (["play", "aem/Toy-v0", "--split", "valid"], "known: train, test"),
        (["play", "aem/Toy-v0", "--task", "nope"], "task_ids"),
        (["check", "--env", "a=1"], "exactly one ID"),
        (["info", "aem/ALFWorld-v0", "--env", "source=official", "--env", "data=/nowhere"], "/nowhere"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_code_2(capsys, arguments, said):
    code, _, error = call(capsys, *arguments)
    assert code == 2 and error.startswith("error: ") and said in error and error.count("\n") == 1


def test_playing_through_a_pipe():
    lines = [":help", ":bogus", "GO east", "\x1b[2J", ":undo", ":undo", ":undo", ":actions", ":info", "go east"]
    lines += [
        "go east",
        "open red chest",
        "go west",
        ":undo",
        "open blue chest",
        ":again",
        ":new nope",
        ":new",
        ":quit",
    ]
    code, out, error = run("play", "aem/Toy-v0", "--task", "rooms3-start1-red", stdin="\n".join(lines))
    assert (code, error) == (0, "") and "\x1b" not in out
    assert "> ␛[2J\nNothing happens.\n(the action is not possible here)" in out
    assert "nothing to take back" in out and "unknown command :bogus" in out and "'task_id'" not in out
    assert "Won after 3 steps, reward 1" in out and "The episode is over" in out and "Lost after 3 steps" in out
    assert "error: unknown task_id 'nope'" in out and out.count("Your task is to") == 5


def test_completion_offers_actions_and_commands():
    said = []
    player = Player(make_env("aem/Toy-v0"), said.append)
    player.start(task_id="rooms3-start2-red")
    assert player.completions("go ") == ["go east", "go west"] and player.completions("fly") == []
    assert ":undo" in player.completions(":u") and player.completions("") == ["go east", "go west"]
    player.enter("go east")
    player.enter("open red chest")
    assert player.completions("") == [] and player.completions(":q") == [":quit"]
    assert player.enter(":quit") is False and player.enter("") is True


def _at_terminal(keys, *, interrupt=False):
    """Type into `play` at a pseudo-terminal; exit code and what was shown."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    command = [*COMMAND, "play", "aem/Toy-v0", "--task", "rooms3-start1-red"]
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    )
    os.close(terminal)
    shown = b""
    try:
        while not shown.endswith(b"> "):
            shown += os.read(controller, 1000)
        os.write(controller, keys)
        if interrupt:
            process.send_signal(signal.SIGINT)
        for _ in range(100):  # a test must end, whatever the command does
            if not select.select([controller], [], [], 3.0)[0]:
                if interrupt and process.poll() is None:
                    process.send_signal(signal.SIGINT)  # as a person would: readline can miss one just before it waits
                continue
            try:
                shown += os.read(controller, 1000)
            except OSError:  # the terminal's other end is closed
                break
        return process.wait(timeout=20), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def test_tab_completes_at_a_terminal():
    pytest.importorskip("readline")
    code, shown = _at_terminal(b"go e\t\n:q\t\n")
    assert code == 0 and "You are in room 2 of 3." in shown


def test_ctrl_c_leaves_cleanly():
    code, shown = _at_terminal(b"", interrupt=True)
    assert code == 130 and "interrupted" in shown and "Traceback" not in shown


def test_a_reader_that_leaves_is_no_error():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*COMMAND, "info", "aem/Toy-v0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    process.stdout.close()
    _, error = process.communicate(timeout=20)
    assert error == b"" and process.returncode in (0, 141)

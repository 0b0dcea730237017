"""The environment: what a step shows, how episodes end, what is left out of nothing, snapshots, experts."""

import re
import threading
import time
from random import Random

import gymnasium as gym
import pytest
from swe_tasks import a_task, need_local, tasks

import aem_envs
from aem_envs.core import BadOptionError, ResetNeededError
from aem_envs.swebench import env as env_module
from aem_envs.swebench.expert import LineExpert, apply_commands, sed_commands
from aem_envs.swebench.grading import Grade
from aem_envs.swebench.sandbox import SandboxError, SandboxMissingError
from envs_data.errors import DataError

pytest.importorskip("swebench")
slow = pytest.mark.slow
FIX = {"task_id": a_task().id}


@pytest.fixture
def env():
    need_local()
    made = gym.make("aem/SWEBench-v0", max_steps=6, command_timeout=20).unwrapped
    yield made
    made.close()


@slow
def test_a_command_shows_its_output_how_it_ended_and_what_is_left(env):
    observation, info = env.reset(seed=1, options=FIX)
    issue = a_task().instance.problem_statement
    assert issue.strip() in observation and observation.endswith("[6 steps left]")
    assert info["details"] == {"isolation": info["details"]["isolation"]} and info["seconds"]["start"] > 0
    observation, reward, terminated, truncated, info = env.step("echo out; echo err >&2; exit 3")
    assert observation == "out\nerr\n[exit code 3]\n[5 steps left]"
    assert (reward, terminated, truncated) == (0, False, False)
    assert info["action_valid"] and info["details"]["exit_code"] == 3
    assert info["seconds"]["commands"] > 0
    observation, *_ = env.step("cd /tmp; x=1; yes | head -c 30000")
    assert re.search(r"\n\[\.\.\. 20000 characters left out \.\.\.\]\n", observation)
    assert env.step("pwd; echo ${x:-none}")[0].startswith("/testbed\nnone\n"), "commands keep no state"


@slow
def test_an_edit_changes_a_file_or_says_why_not(env):
    env.reset(seed=1, options=FIX)
    env.step("printf 'one\\ntwo\\n' > f.txt; ln -s f.txt link; mkdir d")
    edit = "edit {}\n<<<<<<< SEARCH\n{}=======\nthree\n>>>>>>> REPLACE"
    observation, *_, info = env.step(edit.format("f.txt", "two\n"))
    assert "[edited f.txt: 1 place]" in observation and info["action_valid"]
    assert env.sandbox.get("f.txt") == b"one\nthree\n"
    for path, search, why in (
        ("f.txt", "four\n", "0 times"),
        ("link", "one\n", "no regular file"),
        ("d", "one\n", "no regular file"),
        ("none.txt", "one\n", "no file"),
    ):
        observation, _, _, truncated, info = env.step(edit.format(path, search))
        assert not info["action_valid"] and why in info["action_error"], path
    assert truncated and info["truncation_reason"] == "max_steps", "an edit that is refused is a step like any other"


@slow
def test_submission_is_graded_and_ends_the_episode(env):
    env.reset(seed=1, options=FIX)
    (command,) = apply_commands(env.task.instance.patch)
    env.step(command)
    _, reward, terminated, truncated, info = env.step("submit")
    assert (reward, terminated, truncated, info["won"], info["score"]) == (1.0, True, False, True, 1.0)
    details = info["details"]
    assert (details["verdict"], details["fail_to_pass"], details["pass_to_pass"]) == ("resolved", 1, 1)
    assert details["dropped"] == []
    assert details["model_patch"].startswith("diff --git") and {"diff", "tests", "grading"} <= info["seconds"].keys()
    with pytest.raises(ResetNeededError):
        env.step("ls")
    env.reset(seed=1, options=FIX)
    assert env.step("submit")[1:3] == (0.0, True)


@slow
def test_at_the_step_limit_what_is_there_is_graded_or_not():
    need_local()
    for at_limit, won in (("grade", True), ("fail", False)):
        env = gym.make("aem/SWEBench-v0", max_steps=1, at_limit=at_limit).unwrapped
        env.reset(seed=1, options=FIX)
        _, reward, terminated, truncated, info = env.step(apply_commands(env.task.instance.patch)[0])
        assert (reward, terminated, truncated) == (float(won), won, not won)
        assert info["truncation_reason"] == (None if won else "max_steps")
        env.close()


def fail(*given, **options):
    raise SandboxError("gone")


@slow
def test_what_breaks_truncates_with_a_reason_and_is_no_zero(env, monkeypatch):
    env.reset(seed=1, options=FIX)
    monkeypatch.setattr(type(env.sandbox), "run", fail)
    _, reward, terminated, truncated, info = env.step("ls")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["truncation_reason"] == "infra:SandboxError: gone"
    monkeypatch.undo()
    env.reset(seed=1, options=FIX)
    env.step("echo x > x.txt")
    monkeypatch.setattr(env_module, "grade", fail)
    assert env.step("submit")[4]["truncation_reason"] == "infra:SandboxError: gone"


@slow
def test_what_an_agent_breaks_is_no_fault_of_the_machine(env, monkeypatch):
    """The room broke, and a fresh one does not: the episode ends, and is not played again."""
    env.reset(seed=1, options=FIX)
    monkeypatch.setattr(env.sandbox, "run", fail)
    _, reward, terminated, truncated, info = env.step("ls")
    assert (reward, terminated, truncated, info["truncation_reason"]) == (0.0, False, True, "sandbox_died")
    env.reset(seed=1, options=FIX)
    monkeypatch.setattr(env.sandbox, "diff", fail)
    _, reward, terminated, truncated, info = env.step("submit")
    assert (reward, terminated, truncated, info["details"]["verdict"]) == (0.0, True, False, "patch_unreadable")


@slow
@pytest.mark.parametrize(
    "command",
    [
        "touch $'\\xff'",
        "touch $'\\xff'; head -c 20M /dev/urandom > inflection/big",
        "chmod -R 0 .",
        "d=$(printf 'd%.0s' {1..250}); for i in {1..40}; do mkdir $d && cd $d; done; touch f",
        "python3 -c 'for i in range(100_000): open(str(i), \"x\")'",
        "rm -rf .git; mkfifo .git",
        "head -c 1G /dev/zero > inflection/full",
    ],
)
def test_nothing_done_in_the_repository_looks_like_a_broken_machine(env, command):
    env.reset(seed=1, options=FIX)
    env.step(f"echo >> inflection/__init__.py; {command}")
    _, reward, terminated, truncated, info = env.step("submit")
    assert (reward, terminated, truncated) == (0.0, True, False), info["truncation_reason"]
    assert info["details"]["verdict"] in (
        "unresolved",
        "no_patch",
        "patch_refused",
        "patch_too_large",
        "patch_unreadable",
    )


@slow
def test_a_daemon_that_is_missing_in_the_middle_is_infrastructure(env, monkeypatch):
    env.reset(seed=1, options=FIX)

    def missing(*given, **options):
        raise SandboxMissingError("no daemon")

    monkeypatch.setattr(env._rooms, "sandbox", missing)
    env.step("echo x > x.txt")
    assert env.step("submit")[4]["truncation_reason"] == "infra:SandboxMissingError: no daemon"


@slow
def test_a_snapshot_holds_what_changed(env):
    env.reset(seed=1, options=FIX)
    env.step("echo new > new.txt; rm setup.cfg; chmod +x test_inflection.py")
    state = env.get_state()
    expected = env.step("git status --short; cat new.txt")[0]
    other = gym.make("aem/SWEBench-v0", max_steps=6).unwrapped
    other.set_state(state)
    assert other.step("git status --short; cat new.txt")[0] == expected
    other.close()


def test_options_are_checked_by_name():
    for wrong in (
        {"source": "elsewhere"},
        {"at_limit": "maybe"},
        {"command_timeout": 0},
        {"memory_mb": 1},
        {"pids": True},
        {"data": "rows.jsonl"},
        {"source": "official", "data": "rows.jsonl", "sandbox": "local"},
        {"sandbox": "docker", "allow_unsafe": True},
    ):
        with pytest.raises((BadOptionError, DataError)):
            gym.make("aem/SWEBench-v0", **wrong)
    with pytest.raises(BadOptionError, match="SWEBENCH_DATA"):
        gym.make("aem/SWEBench-v0", source="official")


def test_random_actions_depend_on_the_generator_alone():
    env = gym.make("aem/SWEBench-v0").unwrapped
    first, second = ([env.random_action({}, rng) for _ in range(50)] for rng in (Random(3), Random(3)))
    assert first == second and "submit" in first and len(set(first)) > 10


def test_short_commands_of_the_line_expert_do_what_the_patch_does(tmp_path):
    """Of every embedded task: the commands, run for real on the lines of the patch."""
    import subprocess

    shown = 0
    names = [task_id for split in tasks().splits for task_id in tasks().ids(split)]
    for name in names:
        patch = tasks().find(name).instance.patch
        commands = sed_commands(patch)
        if not commands:
            assert LineExpert().plan(patch) == apply_commands(patch)
            continue
        shown += 1
        (path,) = {line[6:] for line in patch.splitlines() if line.startswith("+++ b/")}
        before, after, start = [], [], 1
        for line in patch.splitlines():
            if found := re.match(r"@@ -(\d+)", line):
                start = int(found[1])
                before, after = [""] * (start - 1), [""] * (start - 1)
            elif line.startswith((" ", "-", "+")) and not line.startswith(("---", "+++")):
                before += [line[1:]] if line[0] != "+" else []
                after += [line[1:]] if line[0] != "-" else []
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(before) + "\n")
        for command in commands:
            subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
        assert file.read_text().splitlines() == after, name
        if shown == 40:
            break
    assert shown >= 30


@slow
def test_a_grade_that_is_no_result_is_still_an_answer(env, monkeypatch):
    monkeypatch.setattr(env_module, "grade", lambda *a, **k: Grade(False, "grade_timeout", seconds={"tests": 1.0}))
    env.reset(seed=1, options=FIX)
    env.step("echo x > x.txt")
    _, reward, terminated, truncated, info = env.step("submit")
    assert (reward, terminated, truncated) == (0.0, True, False) and info["details"]["verdict"] == "grade_timeout"


def test_experts_play_only_their_environment():
    toy = gym.make("aem/Toy-v0").unwrapped
    observation, info = toy.reset(seed=0)
    for name in ("expert", "expert-sed"):
        with pytest.raises(BadOptionError, match="SWEBench"):
            aem_envs.make_expert("aem/SWEBench-v0", name).reset(toy, observation, info)


@slow
def test_closing_from_another_thread_ends_what_a_step_waits_for(env, monkeypatch):
    """Also while the tests of a submission run."""
    env.reset(seed=1, options=FIX)
    env.step("echo 'import time; time.sleep(300)' >> inflection/__init__.py")
    for action in ("submit", "sleep 300"):
        found = []
        thread = threading.Thread(target=lambda action=action, found=found: found.append(env.step(action)))
        thread.start()
        time.sleep(3)
        begun = time.monotonic()
        env.close()
        thread.join(60)
        assert not thread.is_alive() and time.monotonic() - begun < 30
        assert found[0][4]["truncation_reason"].startswith("infra:")
        env.reset(seed=1, options=FIX)
    assert "[exit code 0]" in env.step("true")[0]

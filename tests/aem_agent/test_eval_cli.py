"""`aem-eval` end to end on the toy environment: run, resume after every kind of stop, score, compare, view, export."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import gymnasium as gym
import pytest

from aem_agent.cli import main
from aem_agent.records import read_episodes
from aem_agent.types import Episode

TROUBLED = '''
import time
from pathlib import Path
from aem_envs import register
from aem_envs.core import InfrastructureError
from aem_envs.toy import ToyEnv

class TroubledEnv(ToyEnv):
    """The toy with slow steps, whose tasks of three rooms break while the file `broken` exists; the file `edition`
    stands for the tasks' data."""

    def __init__(self, *, delay: float = 0.0, broken: str = "", **rest):
        super().__init__(**rest)
        self.delay, self.broken = delay, broken

    def step(self, action):
        time.sleep(self.delay)
        if self.broken and Path(self.broken).exists() and self._task.rooms == 3:
            raise InfrastructureError("the page went away")
        return super().step(action)

    def _info(self, *rest):
        edition = Path("edition")
        return super()._info(*rest) | ({"data_hash": edition.read_text()} if edition.exists() else {})

register("test/Troubled-v0", "troubled:TroubledEnv")
'''
TROUBLED_ID = "troubled:test/Troubled-v0"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory with a module `troubled` that registers an environment of a third party."""
    (tmp_path / "troubled.py").write_text(TROUBLED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    gym.registry.pop("test/Troubled-v0", None)
    sys.modules.pop("troubled", None)


def aem_eval(*arguments: str) -> int:
    """Run in this process; the exit code."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def start(*arguments: str, **more: object) -> "subprocess.Popen[str]":
    """Run in a process of its own."""
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{Path.cwd()}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "aem_agent.cli", *arguments]
    return subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True, **more)  # type: ignore[call-overload, no-any-return]


def wait_for_episodes(folder: Path, count: int) -> None:
    file, deadline = folder / "episodes.jsonl", time.monotonic() + 30
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "no episode was recorded"
        time.sleep(0.02)


def episodes(folder: str) -> dict[tuple[str, int], Episode]:
    return {(e.task_id, e.repeat): e.identity() for e in read_episodes(Path(folder) / "episodes.jsonl")}


def test_run_writes_a_whole_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "expert", "-n", "6", "-r", "2", "--out", "a") == 0
    assert sorted(p.name for p in Path("a").iterdir()) == [
        "config.json",
        "episodes.jsonl",
        "report.html",
        "summary.json",
    ]
    summary = json.loads(Path("a/summary.json").read_text())
    asked = "env_id n success_rate success_interval mean_return mean_score by_task_type invalid_action_rate"
    assert {*asked.split(), "truncations", "errors"} <= summary.keys()
    assert summary["n"] == 12 and summary["success_rate"] == 1 and summary["pass_at_k"] == {"1": 1, "2": 1}
    config = json.loads(Path("a/config.json").read_text())
    assert config["config"]["seed"] == 0 and config["config"]["hashes"]["tasks"] and config["versions"]["python"]
    shown = capsys.readouterr().out
    assert "12/12" in shown and "100.0 %" in shown and "aem-eval view a" in shown


def test_default_folders_do_not_collide() -> None:
    for _ in range(2):
        assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "1") == 0
    assert len(list(Path("runs").glob("eval-Toy-v0-random-*"))) == 2


def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "2", "--out", "a", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2
    assert aem_eval("score", "a", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("a/summary.json").read_text())


@pytest.mark.parametrize("model", ["random", "expert"])
def test_any_concurrency_plays_the_same_episodes(model: str) -> None:
    for out, concurrency in (("a", "1"), ("b", "7")):
        assert aem_eval("run", "aem/Toy-v0", "-m", model, "-r", "2", "-c", concurrency, "--out", out) == 0
    assert episodes("a") == episodes("b") and len(episodes("a")) == 58


def test_settings_reach_the_environment() -> None:
    assert (
        aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "5", "--max-steps", "2", "--split", "train", "--out", "a")
        == 0
    )
    played = episodes("a").values()
    assert max(len(e.turns) for e in played) == 2 and {e.split for e in played} == {"train"}
    assert json.loads(Path("a/summary.json").read_text())["truncations"]["max_steps"] > 0


def test_dry_run_plays_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-r", "3", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["tasks"] == 29 and plan["episodes"] == 87 and plan["split"] == "test"
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aem/Toy-v0", "-m", "random", "-n", "100"], "has 29 tasks, 100 were asked for"),
        (["aem/Toy-v0", "-m", "random", "-n", "0"], "tasks must be at least 1"),
        (["aem/Toy-v0", "-m", "random", "--temperature", "nan"], "temperature must be at least 0"),
        (["aem/Toy-v0", "-m", "randm"], "give random, expert, expert-search"),
        (["aem/Toy-v0", "-m", "random", "--split", "dev"], "unknown split 'dev'"),
        (["aem/Toy-v0", "-m", "random", "--env", "source=official"], "takes no setting 'source'"),
        (["aem/Toy-v0", "-m", "random", "--env", "source"], "write KEY=VALUE"),
        (["aem/Toy-v0", "-m", "random", "--base-url", "http://me:secret@host/v1"], "OPENAI_API_KEY"),
        (["aem/Toy-v0", "-m", "random", "--out", "."], "not an empty folder"),
        (["aem/Toy-v0", "-m", "random", "-c", "0"], "--concurrency must be at least 1"),
        pytest.param(
            ["aem/ALFWorld-v0", "-m", "expert", "-n", "2", "--env", "engine=textworld"],
            'use engine="native"',
            marks=pytest.mark.realengine,
        ),
        (["aem/Toy-v0", "-m", "a-training-run"], "give -m a-training-run/best"),
        (["aem/Tyo-v0", "-m", "random"], "unknown environment 'aem/Tyo-v0'; known: aem/ALFWorld-v0, aem/Toy-v0"),
        (["aem/Toy-v0", "-m", "expert-search"], "aem/Toy-v0 has no expert 'expert-search'; it has: expert"),
        (["aem/Toy-v0", "-m", "random", "--env", "split=train"], "say --split train, not --env split=train"),
        (
            ["aem/Toy-v0", "-m", "random", "--env", "max_steps=3", "--max-steps", "4"],
            "given twice, by --env max_steps=3 and --max-steps 4",
        ),
        (["nowhere:X-v0", "-m", "random"], "nowhere"),
        (["CartPole-v1", "-m", "random"], "not a TextEnv"),
        (["aem/Toy-v0"], "say what to evaluate"),
        (["--resume", "absent"], "holds no run"),
    ],
)
def test_wrong_use_is_one_clear_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a-training-run/best").mkdir(parents=True)
    assert aem_eval("run", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(Path().glob("runs/*")), "nothing is left of a run that could not begin"


def test_errors_are_reported_apart_and_resume_redoes_only_them(capsys: pytest.CaptureFixture[str]) -> None:
    Path("flag").touch()
    settings = ["--env", "broken=flag", "--retries", "0"]
    assert aem_eval("run", TROUBLED_ID, "-m", "random", "--out", "a", *settings) == 3
    captured = capsys.readouterr()
    summary = json.loads(Path("a/summary.json").read_text())
    broken = summary["errors"]
    assert 0 < broken < 29 and summary["n"] == 29 - broken and summary["error_types"] == {"InfrastructureError": broken}
    assert summary["successes"] == round(summary["success_rate"] * summary["n"])
    assert f"{broken} × InfrastructureError: the page went away" in captured.out
    assert "in no rate above" in captured.out and "--resume a" in captured.err
    before = Path("a/episodes.jsonl").read_bytes()
    assert aem_eval("score", "a") == 3

    Path("flag").unlink()
    assert aem_eval("run", "--resume", "a", "--retries", "0") == 0
    after = Path("a/episodes.jsonl").read_bytes()
    assert after.startswith(before) and after.count(b"\n") == 29 + broken
    assert json.loads(Path("a/summary.json").read_text())["errors"] == 0
    assert aem_eval("run", TROUBLED_ID, "-m", "random", "--out", "b", *settings) == 0
    assert episodes("a") == episodes("b")


def test_resume_refuses_another_configuration_and_says_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "3", "--out", "a") == 0
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "4", "--seed", "5", "--resume", "a") == 2
    error = capsys.readouterr().err
    assert "seed: 0 → 5" in error and "tasks: 3 → 4" in error
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "3", "--out", "a") == 2
    assert "--resume a" in capsys.readouterr().err
    data = json.loads(Path("a/config.json").read_text())
    Path("a/config.json").write_text(json.dumps({**data, "schema_version": 99}))
    assert aem_eval("run", "--resume", "a") == 2
    assert "schema version 99" in capsys.readouterr().err


def test_resume_refuses_tasks_whose_data_have_changed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("edition").write_text("first")
    assert aem_eval("run", TROUBLED_ID, "-m", "random", "-n", "3", "--out", "a") == 0
    lines = Path("a/episodes.jsonl").read_text().splitlines(keepends=True)
    Path("a/episodes.jsonl").write_text("".join(lines[:2]))
    Path("edition").write_text("second")
    assert aem_eval("run", "--resume", "a") == 2
    assert "data of 2 tasks played in a have changed" in capsys.readouterr().err
    assert Path("a/episodes.jsonl").read_text() == "".join(lines[:2])
    Path("edition").write_text("first")
    assert aem_eval("run", "--resume", "a") == 0
    assert len(episodes("a")) == 3


def test_resume_after_kill_9_loses_nothing() -> None:
    arguments = ["run", TROUBLED_ID, "-m", "random", "-n", "12", "-c", "3", "--env", "delay=0.005"]
    process = start(*arguments, "--out", "a")
    wait_for_episodes(Path("a"), 3)
    process.kill()
    process.communicate()
    kept = Path("a/episodes.jsonl").read_bytes()
    kept = kept[: kept.rindex(b"\n") + 1]
    assert kept.count(b"\n") < 12
    Path("a/episodes.jsonl").write_bytes(kept + b'{"env_id":"test/Trou')  # as torn as it can be
    assert aem_eval("run", "--resume", "a") == 0
    content = Path("a/episodes.jsonl").read_bytes()
    assert content.startswith(kept) and content.count(b"\n") == 12
    assert aem_eval(*arguments, "--out", "b") == 0
    assert episodes("a") == episodes("b")


def test_ctrl_c_sums_up_what_is_done_and_says_how_to_go_on() -> None:
    process = start("run", TROUBLED_ID, "-m", "random", "-n", "12", "-c", "2", "--env", "delay=0.01", "--out", "a")
    wait_for_episodes(Path("a"), 2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "--resume a" in error and "Traceback" not in error
    assert error.count("Ctrl-C again stops at once") == 1
    summary = json.loads(Path("a/summary.json").read_text())
    assert summary["n"] >= 2 and summary["missing"] == 12 - summary["n"] > 0 and summary["errors"] == 0
    assert "not complete" in Path("a/report.html").read_text()
    assert aem_eval("run", "--resume", "a") == 0


def test_a_full_disk_is_a_clear_error_and_resumable() -> None:
    def small_files() -> None:  # stands in for a full disk: writes fail beyond 12 kB
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    process = start("run", "aem/Toy-v0", "-m", "random", "--out", "a", preexec_fn=small_files)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2 and "free some space and resume" in error and "Traceback" not in error
    assert 0 < len(episodes("a")) < 29
    assert aem_eval("run", "--resume", "a") == 0
    assert len(episodes("a")) == 29


def test_compare(capsys: pytest.CaptureFixture[str]) -> None:
    for out, more in (("a", ["-m", "random"]), ("b", ["-m", "expert"]), ("c", ["-m", "expert", "--split", "train"])):
        assert aem_eval("run", "aem/Toy-v0", "-n", "20", "--out", out, *more) == 0
    capsys.readouterr()
    assert aem_eval("compare", "a", "b", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"] == 20 and found["differences"]["success"]["interval"][0] > 0
    assert aem_eval("compare", "a", "b") == 0
    assert "success, unlock" in capsys.readouterr().out
    assert aem_eval("compare", "a", "c") == 2
    assert 'split: "test" → "train"' in capsys.readouterr().err
    assert aem_eval("compare", "a", "c", "--force") == 2
    assert "no completed task in common" in capsys.readouterr().err


def test_runs_compare_whose_settings_mean_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    run = ("run", "aem/Toy-v0", "-m", "random", "-n", "3")
    assert aem_eval(*run, "--out", "a") == 0
    assert aem_eval(*run, "--env", "max_steps=50", "--out", "b") == 0, "the toy's default"
    assert aem_eval(*run, "--max-steps", "7", "--out", "c") == 0
    assert aem_eval(*run, "--env", "max_steps=7", "--out", "d") == 0
    assert aem_eval("compare", "a", "b") == 0 and aem_eval("compare", "c", "d") == 0
    assert aem_eval("compare", "a", "c") == 2
    assert "env.max_steps: null → 7" in capsys.readouterr().err


def test_view_shows_hostile_texts_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    Path("script.json").write_text(json.dumps(["\x1b[2J<script>alert(1)</script>", "[red]go east[/red]"]))
    assert aem_eval("run", "aem/Toy-v0", "-m", "scripted:script.json", "-n", "2", "--max-steps", "3", "--out", "a") == 0
    capsys.readouterr()
    assert aem_eval("view", "a", "--episode", "1") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "␛[2J<script>alert(1)</script>" in shown and "[red]go east[/red]" in shown
    assert aem_eval("view", "a", "--episode", "3") == 2
    assert "episodes 1 to 2" in capsys.readouterr().err
    Path("a/report.html").unlink()
    assert aem_eval("view", "a", "--no-browser") == 0
    assert capsys.readouterr().out.strip() == "a/report.html"
    report = Path("a/report.html").read_text()
    assert "<script" not in report and "\x1b" not in report and "alert(1)" in report


@pytest.mark.slow
def test_a_model_folder_plays_and_its_hash_guards_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    from aem_agent.model.presets import make_preset

    make_preset(
        "tiny", "model", 0, ["You are in room 1 of 3. Your task is to: open the red chest. go east", "> Action:"]
    )
    run = ["run", "aem/Toy-v0", "-m", "model", "-n", "3", "--max-steps", "4", "--max-new-tokens", "8"]
    assert aem_eval(*run, "--out", "a") == 0
    assert aem_eval(*run, "--out", "b") == 0
    assert episodes("a") == episodes("b")
    summary = json.loads(Path("a/summary.json").read_text())
    assert summary["n"] == 3 and summary["response_tokens"] > 0 and summary["prompt_tokens"] > 0
    make_preset("tiny", "model", 1, ["other weights"])
    assert aem_eval("run", "--resume", "a") == 2
    assert "hashes.model" in capsys.readouterr().err


class Endpoint(BaseHTTPRequestHandler):
    """A chat endpoint with one answer."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "<think>east</think><action>go east</action>"}
        usage = {"prompt_tokens": 40, "completion_tokens": 2}
        body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def test_an_endpoint_plays_and_its_key_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    try:
        assert aem_eval("run", "aem/Toy-v0", "-m", "openai:any", "-n", "3", "--max-steps", "3", "--out", "a") == 0
    finally:
        server.shutdown()
        server.server_close()
    assert {turn.action for e in episodes("a").values() for turn in e.turns} == {"go east"}
    summary = json.loads(Path("a/summary.json").read_text())
    assert (summary["prompt_tokens"], summary["response_tokens"]) == (9 * 40, 9 * 2), "as the endpoint counts them"
    assert "127.0.0.1" in json.loads(Path("a/config.json").read_text())["config"]["base_url"]
    assert not any(b"very-secret" in file.read_bytes() for file in Path("a").iterdir())


def test_export(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "expert", "-n", "3", "--out", "a") == 0
    assert aem_eval("export", "a", "--out", "data.jsonl") == 0
    lines = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(line["won"] and line["steps"][-1]["action"].startswith("open") for line in lines)
    assert aem_eval("export", "a", "--format", "csv", "--out", "data.csv") == 2


def test_damaged_records_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "2", "--out", "a") == 0
    lines = Path("a/episodes.jsonl").read_bytes().splitlines(keepends=True)
    Path("a/episodes.jsonl").write_bytes(b"{}\n" + lines[1])
    assert aem_eval("score", "a") == 2
    assert "line 1" in capsys.readouterr().err


def test_help_is_quick_because_it_loads_little() -> None:
    root = str(Path(__file__).resolve().parents[2])
    code = (
        "import sys, aem_agent.cli as c\n"
        "c.build_parser().format_help()\n"
        "assert not {'rich', 'torch', 'numpy', 'gymnasium', 'aem_envs', 'aem_agent.types'} & sys.modules.keys()"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3

"""`aem-eval run` end to end on the toy environment: what it plays, writes and refuses, with every kind of policy."""

import json
import os
import resource
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from eval_runs import aem_eval, episodes

pytestmark = pytest.mark.usefixtures("workplace")


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
    assert (plan["done"], plan["remaining"]) == (0, 87)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aem/Toy-v0", "-m", "random", "-n", "100"], "has 29 tasks, 100 were asked for"),
        (["aem/Toy-v0", "-m", "random", "-n", "0"], "tasks must be at least 1"),
        (["aem/Toy-v0", "-m", "random", "--temperature", "nan"], "temperature must be at least 0"),
        (["aem/Toy-v0", "-m", "randm"], "give random, expert, scripted"),
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
        (["aem/Tyo-v0", "-m", "random"], "unknown environment 'aem/Tyo-v0'; known: aem/ALFWorld-v0, aem/SWEBench-v0"),
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

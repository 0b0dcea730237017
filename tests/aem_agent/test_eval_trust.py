"""A folder from elsewhere: nothing its record names is imported, and no server it names is sent the key."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from eval_runs import aem_eval

from aem_agent.agent_config import AgentConfig
from aem_agent.model.presets import make_preset
from aem_agent.run_folder import config_hash
from aem_agent.trust import UntrustedRecordError, acting, acting_in_evaluation, unnamed_url

KEY = "sk-secret-0123456789"
MODULE = '''
from pathlib import Path
import aem_envs
from aem_agent.policies import RandomPolicy
from aem_agent.prompts import PlainSpec
from aem_envs.toy import ToyEnv

Path("imported").touch()

class Env(ToyEnv):
    """The toy."""

aem_envs.register("test/Elsewhere-v0", "elsewhere:Env")
'''


@pytest.fixture(autouse=True)
def place(workplace: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that leaves a file when it is imported, and no key and no endpoint in the environment."""
    Path("elsewhere.py").write_text(MODULE)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    forget()
    sys.modules.pop("elsewhere", None)


def forget() -> None:
    """As in a new process, in which the module has not been imported."""
    import gymnasium as gym

    sys.modules.pop("elsewhere", None)
    gym.registry.pop("test/Elsewhere-v0", None)
    Path("imported").unlink(missing_ok=True)


def rewrite(folder: str, **changes: object) -> None:
    """What anyone can do to a record: its hash holds no secret."""
    file = Path(folder, "config.json")
    data = json.loads(file.read_text())
    data["config"] |= changes
    file.write_text(json.dumps(data | {"config_hash": config_hash(data["config"])}))


def cut(folder: str) -> None:
    """Leave one episode to play."""
    file = Path(folder, "episodes.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


@contextmanager
def capturing() -> "Iterator[tuple[str, list[str | None]]]":
    """A chat endpoint, and the Authorization of each request that it got."""
    got: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"choices": [{"message": {"content": "<action>look</action>"}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", got
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, out: str) -> None:
    run = ["run", "aem/Toy-v0", "-m", "openai:any", "--base-url", url, "-n", "2", "--max-steps", "2"]
    assert aem_eval(*run, "--out", out) == 0


def test_a_recorded_server_gets_the_key_only_when_it_is_named_now(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with capturing() as (url, got):
        ask(url, "a")
        cut("a")
        got.clear()
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        capsys.readouterr()
        assert aem_eval("run", "--resume", "a") == 2
        error = capsys.readouterr().err
        assert f"aem-eval run --resume a --base-url {url}" in error and "your key" in error and KEY not in error
        assert aem_eval("run", "--resume", "a", "--trust") == 2, "which is about code"
        assert aem_eval("run", "--resume", "a", "--base-url", "http://127.0.0.1:9/v1") == 2, "another one"
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        assert aem_eval("run", "--resume", "a") == 2
        assert got == [], "nothing was sent"
        assert aem_eval("run", "--resume", "a", "--base-url", f"{url}/") == 0, "a slash at the end does not count"
        assert got == [f"Bearer {KEY}"] * 2
        cut("a")
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert aem_eval("run", "--resume", "a") == 0
        assert len(got) == 4


def test_without_a_key_a_server_on_this_machine_is_asked_again() -> None:
    with capturing() as (url, got):
        ask(url, "a")
        cut("a")
        got.clear()
        assert aem_eval("run", "--resume", "a") == 0
    assert got == [None] * 2


@pytest.mark.parametrize(
    ("url", "key", "asked"),
    [
        ("http://elsewhere.test/v1", "", False),
        ("http://elsewhere.test/v1", KEY, False),
        ("http://127.0.0.1.elsewhere.test/v1", "", False),
        ("http://localhost:8000/v1", "", True),
        ("http://localhost:8000/v1", KEY, False),
        ("https://api.openai.com/v1", KEY, True),
        ("https://api.openai.com/v1/", KEY, True),
        ("https://api.openai.com.elsewhere.test/v1", KEY, False),
        (None, KEY, True),
    ],
)
def test_which_recorded_urls_need_naming(
    url: str | None, key: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert unnamed_url({"model": "openai:m", "base_url": url}) == (None if asked else url)
    assert unnamed_url({"model": "random", "base_url": url}) is None, "nobody is asked"


def test_an_interrupted_run_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    refused = "http://127.0.0.1:9/v1"
    monkeypatch.setattr("aem_agent.engines.endpoint.Endpoint._pause", lambda *_: 0.0)
    run = ["run", "aem/Toy-v0", "-m", "openai:any", "--base-url", refused, "-n", "1", "--retries", "0"]
    assert aem_eval(*run, "--out", "a") == 3
    assert f"aem-eval run --resume a --base-url {refused}\n" in capsys.readouterr().err


RECORDED = {
    "env_id": "elsewhere:test/Elsewhere-v0",
    "model": "elsewhere:RandomPolicy",
    "prompt": "elsewhere:PlainSpec",
    "engine": "elsewhere:Env",
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_code_is_not_imported(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert aem_eval("run", "aem/Toy-v0", "-m", "random", "-n", "2", "--out", "a") == 0
    cut("a")
    rewrite("a", **{name: RECORDED[name]})
    capsys.readouterr()
    for more in ((), ("--dry-run",)):
        assert aem_eval("run", "--resume", "a", *more) == 2
        error = capsys.readouterr().err
        assert f"{name}={RECORDED[name]}" in error and "aem-eval run --resume a --trust" in error
    assert not Path("imported").exists()
    aem_eval("run", "--resume", "a", "--trust")
    assert Path("imported").exists() or name in ("prompt", "engine"), "random has neither"


def test_a_run_of_ones_own_code_goes_on_with_one_word_or_its_names() -> None:
    run = ["run", RECORDED["env_id"], "-m", RECORDED["model"], "-n", "2", "--out", "a"]
    for more in (["--trust"], [RECORDED["env_id"], "-m", RECORDED["model"]]):
        Path("a").exists() or aem_eval(*run)
        cut("a")
        forget()
        assert aem_eval("run", "--resume", "a", *more) == 0
        assert Path("imported").exists()
    assert aem_eval("run", "--resume", "a", RECORDED["env_id"]) == 2, "the other was not named"


def test_looking_at_a_folder_imports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("a", "b"):
        assert aem_eval("run", "aem/Toy-v0", "-m", "expert", "-n", "2", "--out", out) == 0
        rewrite(out, **RECORDED)
    for command in (
        ["score", "a"],
        ["compare", "a", "b"],
        ["view", "a", "--no-browser"],
        ["view", "a", "b", "--no-browser"],
        ["view", "a", "--episode", "1"],
        ["export", "a", "--out", "sft.jsonl"],
    ):
        assert aem_eval(*command) == 0, capsys.readouterr().err
    assert "elsewhere" not in sys.modules and not Path("imported").exists()


def test_what_acts_without_being_imported() -> None:
    shell = {"sandbox": "local", "allow_unsafe": True, "max_steps": 3, "data": "C:/x", "image": None}
    assert acting({"env": shell, "hashes": {"tasks": "a:b"}}) == ["env.allow_unsafe=True"]
    assert acting({"env": shell | {"allow_unsafe": False}}) == []
    assert acting({"env": {"engine": "auto", "chromium": "/tmp/x"}}) == ["env.engine=auto", "env.chromium=/tmp/x"]
    assert acting({"env": {"sandbox": "mine:Room", "engine": "native"}}) == ["env.sandbox=mine:Room"]
    assert acting({"a": [{"b": ["x:y"]}]}) == ["a.b=x:y"]
    named = [("scripted:f", False), ("openai:m", False), ("openai:", True), ("scripted:", True), ("a:b", True)]
    assert [bool(acting_in_evaluation({"model": model})) for model, _ in named] == [acts for _, acts in named]
    assert acting_in_evaluation({"model": "a:b", "prompt": "c:d"}, named=("model", "prompt")) == []


@pytest.mark.parametrize("name", ["prompt", "parser"])
def test_code_that_a_model_folder_names_is_not_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_preset("tiny", "model", 1, ["go east"])
    touch = {name: "os:system", f"{name}_options": {"command": "touch imported"}}
    Path("model/aem.json").write_text(json.dumps(touch))
    with pytest.raises(UntrustedRecordError, match=f"{name}=os:system"):
        AgentConfig.load(Path("model"))
    run = ["run", "aem/Toy-v0", "-m", "model", "-n", "1", "--max-steps", "1", "--max-new-tokens", "2"]
    assert aem_eval(*run, "--out", "a") == 2
    assert "add --trust" in capsys.readouterr().err and not Path("imported").exists()
    Path("model/aem.json").write_text(json.dumps({"prompt": "elsewhere:PlainSpec"}))
    assert aem_eval(*run, "--out", "a") == 2 and not Path("imported").exists()
    assert aem_eval(*run, "--out", "a", "--trust") == 0 and Path("imported").exists()
    assert aem_eval(*run, "--out", "b", "--prompt", "elsewhere:PlainSpec") == 0, "it is named now"

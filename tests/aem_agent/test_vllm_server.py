"""How vLLM servers of our own are started, guarded and ended. A stub that tells what it was given stands for vLLM;
`tests/vllm` holds the tests with the real one.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from aem_agent.engines import vllm_server
from aem_agent.engines.fake import ByteTokenizer
from aem_agent.engines.fake_server import FakeServer
from aem_agent.engines.server_process import ServerProcess
from aem_agent.engines.vllm_compat import VllmVersionError
from aem_agent.engines.vllm_server import VllmServer
from aem_agent.engines.vllm_server_engine import VllmServerEngine
from aem_agent.model.interface import load_model
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.types import EngineError, GenerateRequest, Sampling

STUB = '''#!{python}
"""Stands for an interpreter with vLLM."""
import asyncio, json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if sys.argv[1] == "-c":
    print({release!r})
    sys.exit()
print("the key is", os.environ["VLLM_API_KEY"], flush=True)
open("told.json", "w").write(json.dumps([sys.argv, dict(os.environ)]))
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)  # moves out of every group
{more}
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
from aem_key_guard import KeyGuard

async def app(scope, receive, send):
    body = b'{{"choices": [{{"token_ids": [5], "logprobs": {{"token_logprobs": [-1]}}, "finish_reason": "stop"}}]}}'
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": body}})

class Handler(BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        sent = []
        async def send(message): sent.append(message)
        headers = [(k.lower().encode(), v.encode()) for k, v in self.headers.items()]
        scope = {{"type": "http", "path": self.path, "method": self.command, "headers": headers}}
        asyncio.run(KeyGuard(app)(scope, None, send))
        self.send_response(sent[0]["status"])
        self.send_header("Content-Length", str(len(sent[1]["body"])))
        self.end_headers()
        self.wfile.write(sent[1]["body"])
    do_GET = do_POST = do_OPTIONS = answer
    def log_message(self, *args): ...

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
'''
Interpreter = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = PresetConfig(hidden_size=16, layers=1, ffn=16, head_dim=32)
    return make_preset(shape, tmp_path_factory.mktemp("m"), 0, ["go east"])


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    """Makes a stub: of a release, with more lines before it serves."""

    def make(release: str = "0.32.0+cpu", more: str = "") -> str:
        path = tmp_path / "python"
        path.write_text(STUB.format(python=sys.executable, release=release, more=more))
        path.chmod(0o755)
        return str(path)

    return make


def below(root: int) -> list[int]:
    """Processes below `root`, itself included."""
    found = [root] if Path(f"/proc/{root}").exists() else []
    for path in Path(f"/proc/{root}/task").glob("*/children"):
        found += [pid for child in path.read_text().split() for pid in below(int(child))]
    return found


def gone(pids: list[int]) -> bool:
    """Whether all have ended, now or within a while; zombies have."""

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(map(alive, pids)):
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_what_a_server_is_given_and_that_all_of_it_ends(
    folder: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    with VllmServer(folder, python=interpreter(), max_batch=3, max_model_len=99) as server:
        room = server._process.folder
        command, environment = json.loads((room / "told.json").read_text())
        key = environment["VLLM_API_KEY"]
        assert command[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
        given = dict(pairwise(command))
        assert given["--host"] == "127.0.0.1" and f":{given['--port']}/v1" in server.url
        assert given["--logprobs-mode"] == "processed_logprobs" and given["--generation-config"] == "vllm"
        assert given["--load-format"] == "safetensors" and given["--max-model-len"] == "99"
        assert given["--model"] == str(folder) and given["--max-num-seqs"] == "3"
        assert len(key) > 40 and key not in repr(server.__dict__) and key not in server.log() and "***" in server.log()
        assert "OPENAI_API_KEY" not in environment and "VLLM_SERVER_DEV_MODE" not in environment
        assert environment["VLLM_NO_USAGE_STATS"] == environment["HF_HUB_OFFLINE"] == "1"
        processes = below(server.pid)
        assert len(processes) == 3, "guard, server, its child"
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes]
        assert not any(key.encode() in line for line in lines), "ps shows command lines to everybody"
        assert room.stat().st_mode & 0o077 == 0, "nobody else reads its log"
        assert not server.lost()
    assert gone(processes) and not room.exists()
    with VllmServer(folder, python=interpreter(), updates=True) as server:
        command, environment = json.loads((server._process.folder / "told.json").read_text())
        assert environment["VLLM_SERVER_DEV_MODE"] == "1" and "--weight-transfer-config" in command


def test_every_route_demands_the_key(folder: Path, interpreter: Interpreter) -> None:
    with VllmServer(folder, python=interpreter(), updates=True) as server:
        for method in ("GET", "POST", "OPTIONS"):
            for path in ("/health", "/v1/models", "/collective_rpc", "/pause", "/update_weights", "/docs", "/", "//"):
                assert httpx.request(method, server.root + path).status_code == 401, (method, path)
                wrong = {"Authorization": "Bearer x"}
                assert httpx.request(method, server.root + path, headers=wrong).status_code == 401
                assert httpx.request(method, server.root + path, headers=server.key.header()).status_code == 200


def test_a_stranger_on_the_port_is_not_given_the_key() -> None:
    seen: list[httpx.Request] = []

    def stranger(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, text="yes")

    with httpx.Client(transport=httpx.MockTransport(stranger)) as client:
        assert not vllm_server._is_ours(client, "http://127.0.0.1:1", "secret")
    (request,) = seen
    assert "authorization" not in request.headers and "secret" not in str(request.url)


CHILD = """
import os, sys
from pathlib import Path
from aem_agent.engines.vllm_server import VllmServer
sys.path.insert(0, sys.argv[3])
from test_vllm_server import below
server = VllmServer(sys.argv[1], python=sys.argv[2])
print(server._process.folder, *below(server.pid), flush=True)
os.kill(os.getpid(), 9) if sys.argv[4] == "kill" else sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "exit"])
def test_nothing_outlives_us(folder: Path, interpreter: Interpreter, end: str) -> None:
    command = [sys.executable, "-c", CHILD, str(folder), interpreter(), str(Path(__file__).parent), end]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    assert done.returncode == (-signal.SIGKILL if end == "kill" else 3)
    room, *pids = done.stdout.split()
    assert len(pids) == 3 and gone([int(pid) for pid in pids])
    deadline = time.monotonic() + 30
    while Path(room).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(room).exists()


def test_a_server_does_not_outlive_its_guard(folder: Path, interpreter: Interpreter) -> None:
    server = VllmServer(folder, python=interpreter())
    guard, process, child = below(server.pid)
    try:
        os.kill(guard, signal.SIGKILL)
        assert gone([process]) and "ended" in server.lost()
    finally:
        os.kill(child, signal.SIGKILL)
        server.close()
    assert not server._process.folder.exists()


@pytest.mark.parametrize(
    ("more", "limit", "message"),
    [
        (
            "sys.exit('no such device')",
            60.0,
            "the vLLM server ended; the end of its log:\nthe key is \\*\\*\\*\nno such",
        ),
        ("time.sleep(999)", 0.5, "did not answer within 0.5 s; the end of its log:\nthe key is \\*\\*\\*"),
    ],
)
def test_a_server_that_does_not_start(
    folder: Path,
    interpreter: Interpreter,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    more: str,
    limit: float,
    message: str,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(EngineError, match=message) as raised:
        VllmServer(folder, python=interpreter(more=more), start_limit=limit)
    assert "VLLM_API_KEY" not in str(raised.value) and not list(tmp_path.glob("aem-server-*"))


@pytest.mark.parametrize(
    ("release", "message"),
    [("", "has no vLLM: install"), ("0.25.1", "0.25.1 is not supported.*0.26 to 0.32"), ("0.33.0", "not supported")],
)
def test_releases_that_are_not_known(folder: Path, interpreter: Interpreter, release: str, message: str) -> None:
    with pytest.raises(VllmVersionError, match=message):
        VllmServer(folder, python=interpreter(release))
    with pytest.raises(VllmVersionError, match="cannot run '/no/python'"):
        VllmServer(folder, python="/no/python")


def test_a_server_that_dies_ends_requests_with_its_log(folder: Path, interpreter: Interpreter) -> None:
    server = VllmServer(folder, python=interpreter(), updates=True)
    engine = VllmServerEngine(server, ByteTokenizer())
    request = GenerateRequest((1, 2), Sampling(max_new_tokens=4), 0)

    async def main() -> Any:
        said = await engine.generate(request)
        os.kill(below(server.pid)[1], signal.SIGKILL)
        with pytest.raises(EngineError, match="the vLLM server ended; the end of its log"):
            await asyncio.wait_for(engine.generate(request), 30)
        with pytest.raises(EngineError, match="ended"):
            await engine.load_weights(load_model(folder))
        await engine.aclose()
        return said

    assert asyncio.run(main()).token_ids == (5,)
    assert not server._process.folder.exists()


def test_evaluation_starts_a_server_without_development_routes(
    folder: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aem_agent.policies import make_policy

    monkeypatch.setenv("AEM_VLLM_PYTHON", interpreter())
    policy = make_policy(str(folder), engine="aem_agent.engines.vllm_server_engine:VllmServerEngine", concurrency=3)
    engine = getattr(policy, "engine")  # noqa: B009
    told = json.loads((engine.server._process.folder / "told.json").read_text())
    assert "VLLM_SERVER_DEV_MODE" not in told[1] and engine.server.settings.max_batch == 3
    with pytest.raises(EngineError, match="updates=True"):
        asyncio.run(engine.load_weights(load_model(folder)))
    asyncio.run(policy.aclose())


def test_a_guard_without_a_command_leaves_nothing() -> None:
    process = ServerProcess()
    assert process.folder.is_dir() and process.log() == ""
    process.close()
    process.close()
    assert not process.folder.exists()


def test_the_double_is_no_server_of_ours() -> None:
    with FakeServer() as server, httpx.Client() as client:
        assert not vllm_server._is_ours(client, server.url.removesuffix("/v1"), "secret")

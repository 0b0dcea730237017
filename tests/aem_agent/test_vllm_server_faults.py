"""What goes wrong with vLLM servers of our own and must be told, waited for, or kept from them. With the stub of
`test_vllm_server.py`.
"""

import asyncio
import fcntl
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_vllm_server import STUB, below, gone

from aem_agent.engines import server_process, vllm_server_engine
from aem_agent.engines.fake import ByteTokenizer
from aem_agent.engines.server_process import ServerProcess
from aem_agent.engines.vllm_server import VllmServer
from aem_agent.engines.vllm_server_engine import VllmServerEngine
from aem_agent.model.interface import load_model
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.types import EngineError, GenerateRequest, Sampling


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = PresetConfig(hidden_size=16, layers=1, ffn=16, head_dim=32)
    return make_preset(shape, tmp_path_factory.mktemp("m"), 0, ["go east"])


@pytest.fixture
def python(tmp_path: Path) -> str:
    path = tmp_path / "python"
    path.write_text(STUB.format(python=sys.executable, release="0.32.0", more=""))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def engine(model_folder: Path, python: str) -> Iterator[VllmServerEngine]:
    """One with a window that a long probe does not fit into."""
    made = VllmServerEngine(VllmServer(model_folder, python=python, updates=True, max_model_len=20), ByteTokenizer())
    yield made
    asyncio.run(made.aclose())


def test_secrets_of_others_stay_here(model_folder: Path, python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("AWS_SECRET_ACCESS_KEY", "aws_session_token", "GH_TOKEN", "PGPASSWORD", "KEY_OF_HOUSE", "MYSECRET")
    for name in secrets:
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    with VllmServer(model_folder, python=python) as server:
        room = server._process.folder
        command, environment = json.loads((room / "told.json").read_text())
        assert not environment.keys() & {*secrets} and "hidden" not in environment.values()
        assert environment["TOKENIZERS_PARALLELISM"] == "false"
        assert command[command.index("--worker-extension-cls") + 1] == "aem_watch.WorkerExtension"
        assert "OWNER" in (room / "aem_watch.py").read_text() and environment["AEM_VLLM_OWNER"] == str(server.pid)


def test_what_a_killed_guard_leaves_is_removed(model_folder: Path, python: str) -> None:
    server = VllmServer(model_folder, python=python)
    guard, process, child = below(server.pid)
    os.kill(guard, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    assert gone([guard, process, child])
    server.close()
    assert not server._process.folder.exists()


def test_a_log_names_the_cause_and_leaves_out_noise() -> None:
    process = ServerProcess()
    try:
        cause = "(EngineCore pid=7) ValueError: no room for keys and values"
        noise = ["nanobind: leaked 5 types!", ' - leaked type "x.Y"', " - ... skipped remainder", "nanobind: this is"]
        last = [f"(APIServer pid=3) line {i}" for i in range(25)]
        said = ["start", cause, *last[:10], *noise, *last[10:], *noise]
        (process.folder / "server.log").write_text("\n".join(said))
        assert process.log().splitlines() == [cause, "…", *last]
        (process.folder / "server.log").write_text("\n".join([cause, *last[:5]]))
        assert process.log().splitlines() == [cause, *last[:5]], "once"
    finally:
        process.close()


def test_a_server_is_watched_though_many_files_are_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this user may not open that many files")
    reading, writing = os.pipe()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    try:
        high = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, 1500)
        assert high >= 1500 and not server_process._readable(high, 0)
        os.close(writing)
        assert server_process._readable(high, 0)
        os.close(high)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(reading)


def test_a_cancelled_update_waits_for_what_it_has_begun(
    engine: VllmServerEngine, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once would end the server."""
    started, allowed, ended = threading.Event(), threading.Event(), threading.Event()

    def send(model: Any) -> None:
        started.set()
        allowed.wait(30)
        ended.set()

    monkeypatch.setattr(vllm_server_engine.transfer, "Sender", lambda *_: send)

    async def main() -> None:
        updating = asyncio.ensure_future(engine.load_weights(load_model(model_folder)))
        await asyncio.to_thread(started.wait, 30)
        updating.cancel()
        await asyncio.sleep(0.1)
        assert not updating.done()
        allowed.set()
        await asyncio.gather(updating, return_exceptions=True)
        assert updating.cancelled() and ended.is_set()

    asyncio.run(main())
    with pytest.raises(EngineError, match="did not end: load weights again"):
        asyncio.run(engine.generate(GenerateRequest((1,), Sampling(max_new_tokens=2), 0)))


def test_an_update_is_probed_within_the_window_and_its_weights_are_asked_for(
    engine: VllmServerEngine, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[tuple[str, Any]] = []

    async def post(path: str, payload: Any, **_: Any) -> Any:
        posted.append((path, payload))
        drawn = {"token_ids": [1] * payload.get("max_tokens", 0), "finish_reason": "length"}
        drawn["logprobs"] = {"token_logprobs": [-1.0] * payload.get("max_tokens", 0)}
        return {"choices": [drawn], "results": ["[]"]}

    monkeypatch.setattr(engine.endpoint, "post", post)
    monkeypatch.setattr(engine._control, "post", post)
    monkeypatch.setattr(vllm_server_engine.transfer, "assert_parity", lambda *_: None)
    with pytest.raises(EngineError, match="tells of other weights"):
        asyncio.run(engine.load_weights(load_model(model_folder)))
    probes = [payload for _, payload in posted if "prompt" in payload]
    assert len(probes) == 3 and all(len(p["prompt"]) + p["max_tokens"] <= 20 for p in probes)
    (asked,) = [payload for path, payload in posted if path == "/collective_rpc"]
    assert asked["method"] == "aem_told"
    assert sorted(json.loads(asked["args"][0])["names"]) == sorted(dict(load_model(model_folder).export()))


def test_a_response_that_ended_in_an_error_is_one(engine: VllmServerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def post(path: str, payload: Any) -> Any:
        return {"choices": [{"token_ids": [5], "logprobs": {"token_logprobs": [-1.0]}, "finish_reason": "error"}]}

    monkeypatch.setattr(engine.endpoint, "post", post)
    with pytest.raises(EngineError, match="ended for the reason 'error'"):
        asyncio.run(engine.generate(GenerateRequest((1,), Sampling(max_new_tokens=2), 0)))

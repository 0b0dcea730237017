"""Endpoints and event loops: nothing is left of one that ended, callers without one can leave; which hosts are ours."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from aem_agent.engines.endpoint import Endpoint
from aem_agent.engines.endpoint_url import is_local
from aem_agent.engines.fake_server import FakeServer
from aem_agent.engines.openai_engine import OpenAIEngine
from aem_agent.types import EngineError, Sampling

ASK = [{"role": "user", "content": "hello"}]


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_one_loop_after_another_leaves_no_connection_behind() -> None:
    with FakeServer(["hi"]) as server:
        engine = OpenAIEngine("m", base_url=server.url)
        asyncio.run(engine.chat(ASK, Sampling(), 1))
        before = handles()
        for _ in range(40):
            assert asyncio.run(engine.chat(ASK, Sampling(), 1)).text == "hi"
        end = time.monotonic() + 30
        while handles() > before + 2 and time.monotonic() < end:  # the server's side ends a little later
            time.sleep(0.01)
        assert handles() <= before + 2
        assert len(engine.endpoint._connections) == 1


def test_loops_that_end_otherwise_are_forgotten() -> None:
    endpoint = Endpoint("http://x.test/v1", transport=httpx.MockTransport(lambda request: httpx.Response(200, json=1)))
    for _ in range(5):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(endpoint.get("/p")) == 1
        loop.close()
    assert len(endpoint._connections) == 1
    asyncio.run(endpoint.aclose())


INTERRUPTED = """
import asyncio, httpx
from aem_agent.engines.endpoint import Endpoint
ended = []
async def hang(request):
    print("asked", flush=True)
    try:
        await asyncio.sleep(900)
    finally:
        ended.append(1)
endpoint = Endpoint("http://x.test/v1", transport=httpx.MockTransport(hang), timeout=900)
try:
    endpoint.get_now("/models")
except KeyboardInterrupt:
    print("interrupted", ended, flush=True)
"""


def test_ctrl_c_ends_a_request_without_a_loop() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert out == "interrupted []\n" and not err, "at once, whatever the request does"


def test_requests_without_a_loop_give_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def busy(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(503, text="busy")

    with pytest.raises(EngineError, match=r"/models: status 503: busy \(after 3 tries\)"):
        Endpoint("http://x.test/v1", transport=httpx.MockTransport(busy), backoff=0.001).get_now("/models")
    assert len(calls) == 3

    async def hang(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(900)
        raise AssertionError

    monkeypatch.setattr("aem_agent.engines.endpoint.NOW_SECONDS", 0.05)
    with pytest.raises(EngineError, match=r"/models: no answer within 0.05 s"):
        Endpoint("http://x.test/v1", transport=httpx.MockTransport(hang)).get_now("/models")

    async def within() -> Any:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json=[1]))
        return Endpoint("http://x.test/v1", transport=transport).get_now("/models")

    assert asyncio.run(within()) == [1]


@pytest.mark.parametrize("headers", [{"retry-after": "0"}, {"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}])
def test_servers_cannot_take_the_pauses_away(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {**headers, "date": "Sun, 06 Nov 1994 09:00:00 GMT"}
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real(0)

    monkeypatch.setattr("aem_agent.engines.endpoint.asyncio.sleep", sleep)
    endpoint = Endpoint(
        "http://x.test/v1", transport=httpx.MockTransport(lambda request: httpx.Response(503, headers=headers))
    )
    with pytest.raises(EngineError, match="after 7 tries"):
        asyncio.run(endpoint.get("/p"))
    assert len(pauses) == 6 and all(pause >= 2**n or pause == 60 for n, pause in enumerate(pauses))


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *((host, True) for host in ("localhost", "localhost.", "LOCALHOST", "a.localhost", "127.0.0.1", "127.0.0.2")),
        *((host, True) for host in ("0.0.0.0", "127.1", "[::1]", "[::]", "[::ffff:127.0.0.1]")),
        *((host, False) for host in ("example.org", "128.0.0.1", "10.0.0.1", "localhost.example.org", "[fe80::1]")),
    ],
)
def test_proxies_are_asked_for_other_machines_only(host: str, local: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_local(f"http://{host}:8000/v1") is local
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client = Endpoint(f"http://{host}:8000/v1")._client()
    assert client.trust_env is not local
    asyncio.run(client.aclose())


def test_what_is_sent_with_every_request() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=1)

    asyncio.run(Endpoint("http://x.test/v1", transport=httpx.MockTransport(answer)).post("/p", {}))
    assert seen[0].headers["accept-encoding"] == "identity", "compressed answers are refused"
    assert seen[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("reuse", [True, False])
def test_a_request_is_not_lost_to_a_connection_that_is_being_closed(reuse: bool) -> None:
    """The server resets a connection the moment a second request comes on it, as one does that gave it up just then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1")
        await reader.read(1)  # another request, or its end
        writer.transport.abort()

    async def main() -> list[Any]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint(f"http://127.0.0.1:{port}", reuse=reuse)
        try:
            return [await endpoint.post("/pause", {}, tries=1) for _ in range(3)]
        finally:
            await endpoint.aclose()
            server.close()

    if reuse:
        with pytest.raises(EngineError, match=r"/pause: (RemoteProtocolError|ReadError): .*after 1 tries"):
            asyncio.run(main())
    else:
        assert asyncio.run(main()) == [1, 1, 1]


def test_the_double_ends_quietly_with_connections_open(caplog: pytest.LogCaptureFixture) -> None:
    with FakeServer() as server:
        url = httpx.URL(server.url)
        idle = [socket.create_connection((url.host, url.port or 0)) for _ in range(3)]
        for connection in idle:  # answered, so that the server has taken it
            connection.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
            assert connection.recv(1 << 16)
    for connection in idle:
        connection.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

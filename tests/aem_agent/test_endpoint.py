"""What engines over HTTP share: tries and pauses, hostile answers, and a key that shows up nowhere."""

import asyncio
import json
import pickle
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from aem_agent.engines.endpoint import Endpoint, EndpointRefusedError, asked_wait
from aem_agent.engines.endpoint_key import Key
from aem_agent.engines.fake_server import PROPER, FakeServer, Fault
from aem_agent.engines.openai_engine import OpenAIEngine
from aem_agent.types import EngineError, Response, Sampling

KEY = "sk-secret-0123456789"
ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def say(server: FakeServer, **options: Any) -> Response:
    """One reply of a chat engine."""

    async def main() -> Response:
        engine = OpenAIEngine("m", base_url=server.url, **({"backoff": 0.001} | options))
        try:
            return await engine.chat(ASK, Sampling(), 1)
        finally:
            await engine.aclose()

    return asyncio.run(asyncio.wait_for(main(), 60))


def post(answer: Callable[[httpx.Request], Any], **options: Any) -> tuple[Any, Endpoint]:
    endpoint = Endpoint("http://x.test/v1", transport=httpx.MockTransport(answer), **({"backoff": 0.001} | options))

    async def main() -> Any:
        try:
            return await endpoint.post("/p", {})
        finally:
            await endpoint.aclose()

    return asyncio.run(asyncio.wait_for(main(), 60)), endpoint


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=529),
        Fault(half=True),
        Fault(hang=True),
    ],
    ids=["500", "429", "529", "half", "hang"],
)
def test_what_passes_by_itself_is_tried_again(fault: Fault) -> None:
    with FakeServer(["<action>go</action>"], faults=[fault, fault, PROPER]) as server:
        assert say(server, timeout=0.3 if fault.hang else 30.0).text == "<action>go</action>"
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501])
def test_refusals_are_not_tried_again(status: int) -> None:
    with FakeServer(faults=[Fault(status=status)]) as server:
        with pytest.raises(EndpointRefusedError, match=f"status {status}: told to fail") as raised:
            say(server)
        assert len(server.requests) == 1 and raised.value.status == status


def test_a_spent_quota_is_not_tried_again() -> None:
    with FakeServer(faults=[Fault(status=429, body=b'{"code": "insufficient_quota"}')]) as server:
        with pytest.raises(EngineError, match="insufficient_quota"):
            say(server)
        assert len(server.requests) == 1


def test_redirects_are_not_followed() -> None:
    """They would take the key elsewhere."""
    with FakeServer() as other, FakeServer(faults=[Fault(status=307, headers={"Location": other.url})]) as server:
        with pytest.raises(EngineError, match="status 307"):
            say(server)
        assert not other.requests


def test_answers_without_end_and_bombs_take_bounded_memory() -> None:
    with FakeServer(faults=[Fault(endless=True)]) as server:
        with pytest.raises(EngineError, match="an answer of more than 16777216 bytes"):
            say(server)
        assert len(server.requests) == 1, "not tried again"
    bomb = Fault(garbage=True, headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b\x08" + b"\0" * 99)
    with FakeServer(faults=[bomb]) as server, pytest.raises(EngineError, match="compressed"):
        say(server)


def test_refusals_without_end_are_read_in_part() -> None:
    async def body() -> Any:
        while True:
            yield b"no" * 5000

    with pytest.raises(EngineError, match="status 404: nono"):
        post(lambda request: httpx.Response(404, content=body()))


def test_waits_that_are_asked_for() -> None:
    date, later = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:44 GMT"
    assert asked_wait({"retry-after": "7"}) == 7
    assert asked_wait({"retry-after": later, "date": date}) == 7, "this machine's clock plays no part"
    assert asked_wait({"retry-after": date, "date": later}) == 0
    for nonsense in ({}, {"retry-after": later}, {"retry-after": "soon", "date": date}, {"retry-after": "-1"}):
        assert asked_wait(nonsense) is None


def test_pauses_grow_and_end_before_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float, *rest: Any) -> None:
        pauses.append(seconds)
        await real(0)

    monkeypatch.setattr("aem_agent.engines.endpoint.asyncio.sleep", sleep)
    monkeypatch.setattr(time, "time", lambda: float(len(pauses)) * -1e9)  # a clock that jumps
    with pytest.raises(EngineError, match=r"status 503:  \(after 7 tries\)"):
        post(lambda request: httpx.Response(503), backoff=1.0)
    assert all(2**n <= pause <= 2 * 2**n or pause == 60 for n, pause in enumerate(pauses)) and len(pauses) == 6
    assert sum(pauses) >= 60, "a server that fails for a minute is outlasted"
    pauses.clear()
    with pytest.raises(EngineError):
        post(lambda request: httpx.Response(503, headers={"retry-after": "9999"}), retries=1)
    assert pauses == [60.0]


def test_a_server_of_ours_that_ended_is_not_waited_for() -> None:
    calls = []
    with pytest.raises(EngineError, match="it ended"):
        post(lambda request: calls.append(1) or httpx.Response(503), lost=lambda: "it ended")
    assert len(calls) == 1


def test_an_endpoint_serves_one_loop_after_another() -> None:
    with FakeServer(["hi"]) as server:
        engine = OpenAIEngine("m", base_url=server.url, concurrency=1)
        for _ in range(3):
            assert asyncio.run(engine.chat(ASK, Sampling(), 1)).text == "hi"
        asyncio.run(engine.aclose())
        with pytest.raises(EngineError, match="closed"):
            asyncio.run(engine.chat(ASK, Sampling(), 1))


def test_proxies_are_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with FakeServer(["hi"]) as server:
        assert say(server, retries=0).text == "hi"


def test_the_key_has_no_representation_and_stays_in_its_process() -> None:
    held = Key(KEY)
    assert KEY not in f"{held!r}{held}" and held.masked(f"<{KEY}>") == "<***>" and Key("").header() == {}
    with pytest.raises(TypeError):
        pickle.dumps(held)


def test_a_word_that_stands_for_no_key_changes_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "go")
    with FakeServer(["<action>go east</action>"], key="go") as server:
        assert say(server).text == "<action>go east</action>"


def test_the_key_is_in_no_file_stream_log_or_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A whole `aem-eval run` against a server that repeats the key wherever it can: in headers, refusals and texts."""
    from aem_agent.cli import main

    caplog.set_level(0)
    monkeypatch.chdir(tmp_path)
    echo = {"X-Echo": f"Bearer {KEY}"}
    faults = [
        Fault(status=500, headers=echo, body=KEY.encode()),
        Fault(status=401, headers=echo, body=f"wrong key {KEY}".encode()),
        Fault(garbage=True, body=f"<html>{KEY}".encode()),
        Fault(garbage=True, body=json.dumps({"choices": KEY}).encode()),
        *[Fault(headers=echo)] * 99,
    ]
    texts = [f"<think>{KEY}</think><action>go {KEY}</action>"]
    with FakeServer(texts, faults=faults) as server:
        with pytest.raises(SystemExit) as stop:
            command = ["run", "aem/Toy-v0", "-n", "6", "--max-steps", "2", "--retries", "0", "-c", "1", "--out", "a"]
            main([*command, "-m", "openai:m", "--base-url", server.url])
        assert stop.value.code == 3 and len(server.requests) > 3
    out, err = capfd.readouterr()
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) >= 4 and b"***" in written[tmp_path / "a" / "episodes.jsonl"]
    for place, text in {**written, "out": out.encode(), "err": err.encode(), "log": caplog.text.encode()}.items():
        assert KEY.encode() not in text, place
    assert "httpcore" in {record.name.partition(".")[0] for record in caplog.records}, "its loggers were heard"


def test_the_key_is_in_no_argument_of_an_error() -> None:
    with FakeServer(faults=[Fault(status=403, body=KEY.encode())]) as server:
        try:
            say(server)
        except EngineError as error:
            shown: list[BaseException | None] = [error]
            while (last := shown[-1]) is not None:
                assert KEY not in repr(last) + str(last.args) + str(vars(last))
                shown.append(last.__cause__ or last.__context__)
            assert "***" in str(error)


def test_thousands_of_requests_keep_to_the_limit() -> None:
    with FakeServer(["hi"], latency=0.001) as server:

        async def main() -> list[Any]:
            engine = OpenAIEngine("m", base_url=server.url, concurrency=8)
            asked: list[Awaitable[Any]] = [engine.chat(ASK, Sampling(), n) for n in range(300)]
            try:
                return await asyncio.gather(*asked)
            finally:
                await engine.aclose()

        assert len(asyncio.run(main())) == 300 and 2 <= server.most_running <= 8


def test_the_double_runs_as_a_program() -> None:
    import subprocess

    command = [sys.executable, "-m", "aem_agent.engines.fake_server", "--say", "look"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            engine = OpenAIEngine("m", base_url=url)
            assert asyncio.run(engine.chat(ASK, Sampling(), 1)).text == "look"
        finally:
            process.kill()


def test_the_double_tells_that_its_port_is_taken() -> None:
    with FakeServer() as server, pytest.raises(OSError, match="in use"):
        FakeServer(port=httpx.URL(server.url).port or 0).__enter__()

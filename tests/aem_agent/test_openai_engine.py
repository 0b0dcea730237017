"""The engine for OpenAI-compatible endpoints: replies, retries, limits, and a key that shows up nowhere."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gymnasium as gym
import httpx
import pytest

import aem_envs  # noqa: F401  # registers the environments
from aem_agent.engines.openai_engine import OpenAIEngine
from aem_agent.policies import make_policy
from aem_agent.rollout import RolloutManager
from aem_agent.run_folder import RunFolder
from aem_agent.types import EngineError, Response, Sampling, TaskRef, TextEngine

KEY = "sk-secret-0123456789"
ASK = [{"role": "user", "content": "hello"}]
DRAW = Sampling()


def reply(text: Any = "hi", **choice: Any) -> httpx.Response:
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    return httpx.Response(200, json={"choices": [{"message": {"content": text}, **choice}], "usage": usage})


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def engine(answer: Callable[[httpx.Request], Any], **options: Any) -> OpenAIEngine:
    options = {"base_url": "http://127.0.0.1:1/v1", "backoff": 0.001, **options}
    return OpenAIEngine("tiny", transport=httpx.MockTransport(answer), **options)


def ask(engine: OpenAIEngine, sampling: Sampling = DRAW, messages: Any = ASK) -> Response:
    async def main() -> Response:
        try:
            return await engine.chat(messages, sampling, 2**40 + 3)
        finally:
            await engine.aclose()

    return asyncio.run(main())


def test_request_and_reply() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return reply("<action>go</action>", finish_reason="length")

    made = engine(answer)
    assert isinstance(made, TextEngine)
    response = ask(made, Sampling(temperature=0.4, top_p=0.9, max_new_tokens=9, stop=("\n",)))
    assert response == Response("<action>go</action>", finish_reason="length", usage=(7, 2))
    (request,) = seen
    assert str(request.url) == "http://127.0.0.1:1/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(request.content) == {
        "model": "tiny",
        "messages": ASK,
        "temperature": 0.4,
        "top_p": 0.9,
        "max_tokens": 9,
        "seed": 3,
        "stop": ["\n"],
    }
    assert (made.usage.requests, made.usage.prompt_tokens, made.usage.completion_tokens) == (1, 7, 2)


def test_lone_surrogates_can_be_sent() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return reply(json.loads(request.content)["messages"][0]["content"])

    assert ask(engine(answer), messages=[{"role": "user", "content": "a\ud800é"}]).text == "a?é"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_failures_are_retried(status: int) -> None:
    answers = [httpx.Response(status), httpx.Response(status, headers={"retry-after": "0"}), reply()]
    made = engine(lambda request: answers.pop(0))
    assert ask(made).text == "hi" and made.usage.retries == 2


def test_lost_connections_and_timeouts_are_retried() -> None:
    failures: list[Exception] = [httpx.ConnectError("refused"), httpx.ReadTimeout("slow")]

    def answer(request: httpx.Request) -> httpx.Response:
        if failures:
            raise failures.pop()
        return reply()

    assert ask(engine(answer)).text == "hi"


def test_lasting_failures_end_with_a_typed_error() -> None:
    calls = []
    with pytest.raises(EngineError, match=r"status 503: busy \(after 3 tries\)"):
        ask(engine(lambda request: calls.append(1) or httpx.Response(503, text="busy"), retries=2))
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(EngineError, match="status 404: no model"):
        ask(engine(lambda request: calls.append(1) or httpx.Response(404, text="no model")))
    assert len(calls) == 1, "a refusal is not retried"

    async def hang(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(9)
        return reply()

    with pytest.raises(EngineError, match="TimeoutError"):
        ask(engine(hang, timeout=0.02, retries=1))


def test_newer_name_of_the_token_limit() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        data = json.loads(request.content)
        if "max_tokens" in data:
            return httpx.Response(400, text="Use 'max_completion_tokens' instead.")
        return reply(str(data["max_completion_tokens"]))

    assert ask(engine(answer), Sampling(max_new_tokens=5)).text == "5"


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 5}}]}', "[" * 99999]
)
def test_malformed_answers(body: str) -> None:
    with pytest.raises(EngineError, match="not a"):
        ask(engine(lambda request: httpx.Response(200, text=body)))


def test_answers_nested_to_the_limits() -> None:
    for depth in range(700, 1000, 60):
        body = "[" * depth + "]" * depth
        with pytest.raises(EngineError, match="not a"):
            ask(engine(lambda request, body=body: httpx.Response(200, text=body)))
        content = f'{{"choices": [{{"message": {{"content": {body}}}}}]}}'
        with pytest.raises(EngineError, match="not a"):
            ask(engine(lambda request, body=content: httpx.Response(200, text=body)))


@pytest.mark.parametrize(
    ("usage", "recorded"),
    [
        (None, None),
        ({}, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"completion_tokens": 3}, (0, 3)),
    ],
)
def test_usage_that_an_endpoint_leaves_out(usage: Any, recorded: tuple[int, int] | None) -> None:
    body = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    assert ask(engine(lambda request: httpx.Response(200, json=body))).usage == recorded


def test_empty_content_is_an_empty_reply() -> None:
    assert ask(engine(lambda request: reply(None))).text == ""
    assert ask(engine(lambda request: reply("x", finish_reason="content_filter"))).finish_reason == "error"


def test_concurrency_limit() -> None:
    active = most = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.002)
        active -= 1
        return reply()

    async def main() -> None:
        made = engine(answer, concurrency=3)
        await asyncio.gather(*(made.chat(ASK, Sampling(), n) for n in range(12)))
        assert made.usage.requests == 12

    asyncio.run(main())
    assert most == 3


def test_key_is_needed_and_must_fit_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\nsecret")
    with pytest.raises(EngineError, match="characters") as raised:
        OpenAIEngine("m", base_url="http://x/v1")
    assert "secret" not in str(raised.value)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EngineError, match="set OPENAI_API_KEY"):
        OpenAIEngine("m")
    seen = []
    ask(engine(lambda request: seen.append(request) or reply()))  # type: ignore[func-returns-value]
    assert "authorization" not in seen[0].headers, "a local server needs none"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://x/v1",
        "http://",
        "http://[::1",
        "http://u:sk-pass@host/v1",
        "http://host/v1?k=sk-pass",
        "http://host/v1?",
        "http://host/v1#",
    ],
)
def test_bad_base_urls(url: str) -> None:
    with pytest.raises(EngineError, match="base URL") as raised:
        OpenAIEngine("m", base_url=url)
    assert "sk-pass" not in str(raised.value)


class Server(BaseHTTPRequestHandler):
    """Answers "go east" to the right key; every third request fails, and refusals repeat the key as some vendors do."""

    count = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Server.count += 1
        status, answer = 200, {"choices": [{"message": {"content": "<think>.</think><action>go east</action>"}}]}
        if body["model"] == "forbidden":
            status, answer = 401, {"error": f"Incorrect API key provided: {self.headers['authorization']}"}  # type: ignore[dict-item]
        elif Server.count % 3 == 0:
            status = 503
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def loopback() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("model", ["tiny", "forbidden"])
def test_evaluation_over_a_real_connection_leaves_no_trace_of_the_key(
    loopback: str, tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    policy = make_policy(f"openai:{model}", base_url=loopback, max_new_tokens=20)
    assert not policy.trainable
    policy.engine.endpoint._backoff = 0.001  # type: ignore[attr-defined]
    tasks = [TaskRef("aem/Toy-v0", "rooms4-start1-red", "train")]
    folder = RunFolder.create(tmp_path / "run", {"model": f"openai:{model}", "base_url": loopback})

    async def main() -> list[Any]:
        with folder.writer() as writer:
            manager = RolloutManager(
                lambda: gym.make("aem/Toy-v0", max_steps=4), policy, on_episode=writer.write, retries=1
            )
            try:
                return await manager.run(tasks, 3)
            finally:
                await policy.aclose()

    (group,) = asyncio.run(main())
    if model == "tiny":
        assert [len(e.turns) for e in group.episodes] == [4, 4, 4]
        assert group.episodes[0].turns[0].action == "go east"
    else:
        assert [e.error for e in group.errored if "Incorrect API key provided: Bearer ***" in (e.error or "")]
    written = b"".join(file.read_bytes() for file in folder.path.iterdir())
    assert KEY.encode() not in written and KEY not in caplog.text and KEY not in repr(policy.__dict__)

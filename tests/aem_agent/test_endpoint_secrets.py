"""What hostile servers do to have a key shown: escapes, token ids, answers that are cut within it, failures."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from aem_agent.engines.completions_engine import CompletionsEngine
from aem_agent.engines.endpoint_key import Key
from aem_agent.engines.fake import ByteTokenizer
from aem_agent.engines.openai_engine import OpenAIEngine
from aem_agent.types import EngineError, GenerateRequest, Response, Sampling

KEY = "sk-secret/0123456789-and-so-on"
ASK = [{"role": "user", "content": "hello"}]
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def chat(answer: Answer, **options: Any) -> Response:
    transport = httpx.MockTransport(answer)
    engine = OpenAIEngine("m", base_url="http://x.test/v1", transport=transport, retries=0, **options)
    return asyncio.run(engine.chat(ASK, Sampling(), 1))


def draw(**choice: Any) -> Response:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"choices": [choice]})

    transport = httpx.MockTransport(answer)
    engine = CompletionsEngine("m", ByteTokenizer(), base_url="http://x.test/v1", transport=transport)
    return asyncio.run(engine.generate(GenerateRequest((7,), Sampling(), 5)))


def spelled(text: str, **choice: Any) -> dict[str, Any]:
    """A choice whose token ids spell `text`."""
    ids = ByteTokenizer().encode(text)
    return {"token_ids": ids, "logprobs": {"token_logprobs": [-1] * len(ids)}, "finish_reason": "stop"} | choice


def hidden(text: str) -> bool:
    """Not even a part that would help."""
    return not any(KEY[i : i + 6] in text.replace("\\", "") for i in range(len(KEY) - 5))


@pytest.mark.parametrize("at", [*range(260, 320, 7)])
def test_what_is_quoted_is_masked_before_it_is_cut(at: int) -> None:
    with pytest.raises(EngineError, match="not a chat completion") as raised:
        chat(lambda request: httpx.Response(200, json={"choices": "x" * (at - len("{'choices': '")) + KEY}))
    assert hidden(str(raised.value))
    with pytest.raises(EngineError, match="status 404") as raised:
        chat(lambda request: httpx.Response(404, text="x" * at + KEY))
    assert hidden(str(raised.value))


def test_reasons_are_masked_before_they_are_cut() -> None:
    with pytest.raises(EngineError, match="ended for the reason") as raised:
        draw(**spelled("go", finish_reason="x" * 20 + KEY))
    assert hidden(str(raised.value)) and "xxx***" in str(raised.value)


def test_token_ids_that_spell_the_key_are_no_response() -> None:
    assert draw(**spelled("go")).text == "go"
    with pytest.raises(EngineError, match="repeats the key in its tokens") as raised:
        draw(**spelled(f"go {KEY}"))
    assert hidden(str(raised.value))


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, OSError])
def test_failures_of_connections_are_masked(error: type[Exception]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error(f"illegal header: {KEY}")

    for lost in (str, lambda: "it ended"):  # an endpoint of anybody's, and a server of our own
        with pytest.raises(EngineError, match=r"illegal header: \*\*\*") as raised:
            chat(fail, lost=lost)
        assert hidden(str(raised.value))
        assert raised.value.__context__ is None and raised.value.__cause__ is None, "they would hold it"


SPELLINGS = {
    "slash": KEY.replace("/", "\\/"),
    "code": KEY.replace("/", "\\u002f"),
    "upper": KEY.replace("/", "\\u002F"),
    "all": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "twice": json.dumps(KEY.replace("/", "\\/"))[1:-1],
    "twice the code": KEY.replace("s", "\\\\u0073"),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_the_key_is_masked_however_json_spells_it(spelling: str) -> None:
    assert Key(KEY).masked(f'{{"a": "\\n{spelling}\\t"}}').endswith('***\\t"}')
    for status in (200, 401):  # no JSON, or a refusal: quoted as they came
        with pytest.raises(EngineError) as raised:
            chat(lambda request, status=status: httpx.Response(status, text=f'{{"error": "{spelling}"'))
        assert "***" in str(raised.value) and hidden(str(raised.value)) and spelling not in str(raised.value)


def test_keys_of_all_letters_are_masked_and_nothing_else() -> None:
    odd = "sk-\\\"/.*+[x]\\\\y'$"
    for text in (odd, json.dumps(odd), json.dumps(json.dumps(odd)), json.dumps(odd).replace("/", "\\/"), repr(odd)):
        assert "***" in Key(odd).masked(text) and "sk-" not in Key(odd).masked(text)
    for other in ("C:\\sk-secret", "\\u0073k-secret", KEY[1:], KEY.upper(), "\\\\" * 1_000_000):
        assert Key(KEY).masked(other) == other

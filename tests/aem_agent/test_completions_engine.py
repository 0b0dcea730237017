"""Engines over /v1/completions: text, and token ids that can be trained on."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import httpx
import pytest

import aem_envs  # noqa: F401  # registers the environments
from aem_agent.engines.completions_engine import CompletionsEngine, CompletionsTextEngine
from aem_agent.engines.fake import ByteTokenizer
from aem_agent.engines.fake_server import FakeServer
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.model_policies import ChatPolicy, ModelPolicy
from aem_agent.policies import make_policy
from aem_agent.records import read_episodes
from aem_agent.rollout import RolloutManager
from aem_agent.types import (
    ContextOverflowError,
    EngineError,
    GenerateRequest,
    Response,
    Sampling,
    TaskRef,
    TextEngine,
    TokenEngine,
    TrainingNeedsTokensError,
)

PROMPT = (7, 8, 9)
TASKS = [TaskRef("aem/Toy-v0", "rooms4-start1-red", "train")]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(["go east\nand more"]) as started:
        yield started


def draw(base_url: str, sampling: Sampling, **options: Any) -> Response:
    async def main() -> Response:
        engine = CompletionsEngine("fake", ByteTokenizer(), base_url=base_url, **options)
        try:
            return await engine.generate(GenerateRequest(PROMPT, sampling, 5))
        finally:
            await engine.aclose()

    return asyncio.run(main())


def answered(body: Any, **sampling: Any) -> Response:
    """What the engine makes of an answer."""
    text = body if isinstance(body, str) else json.dumps(body)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=text))
    return draw("http://x.test/v1", Sampling(**sampling), transport=transport)


def choice(**changes: Any) -> dict[str, Any]:
    proper = {
        "text": "a",
        "token_ids": [97, 256],
        "logprobs": {"token_logprobs": [-0.5, -0.25]},
        "finish_reason": "stop",
        "prompt_token_ids": list(PROMPT),
    }
    return {"choices": [{**proper, **changes}]}


def test_ids_go_out_and_come_back(server: FakeServer) -> None:
    response = draw(server.url, Sampling(max_new_tokens=40, stop=("\n",), stop_token_ids=(3,)))
    assert response.text == "go east\n" and bytes(response.token_ids) == b"go east\n", "the stop string is kept"
    assert response.finish_reason == "stop" and response.logprobs == (-0.5,) * 8 and response.usage is None
    (asked,) = server.requests
    assert asked["prompt"] == [7, 8, 9] and asked["return_token_ids"] and asked["include_stop_str_in_output"]
    assert asked["stop_token_ids"] == [3, 256] and asked["seed"] == 5
    defaults = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    assert {name: asked[name] for name in defaults} == defaults, "whatever the server's own defaults are"
    free = draw(server.url, Sampling(max_new_tokens=40))
    assert free.text == "go east\nand more" and free.token_ids[-1] == 256


def test_limits_of_length(server: FakeServer) -> None:
    short = draw(server.url, Sampling(max_new_tokens=3))
    assert short.text == "go " and short.finish_reason == "length"
    with pytest.raises(ContextOverflowError):
        draw(server.url, Sampling(max_new_tokens=9), max_positions=11)
    for request in (GenerateRequest((), Sampling(), 0), GenerateRequest((7,), Sampling(max_new_tokens=0), 0)):
        with pytest.raises(EngineError, match="needs a prompt"):
            asyncio.run(CompletionsEngine("fake", ByteTokenizer(), base_url=server.url).generate(request))


@pytest.mark.parametrize(
    ("sampling", "processed", "known"),
    [
        (Sampling(), False, True),
        (Sampling(temperature=0.0), False, True),
        (Sampling(temperature=0.4), False, False),
        (Sampling(temperature=0.4), True, True),
        (Sampling(temperature=0.4, top_p=0.9), True, False),
        (Sampling(top_p=0.9), False, False),
    ],
)
def test_logprobs_are_told_where_their_temperature_is_known(
    server: FakeServer, sampling: Sampling, processed: bool, known: bool
) -> None:
    assert (draw(server.url, sampling, processed=processed).logprobs is not None) is known


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not a completion"),
        ("<html>", "not a JSON text"),
        ("[]", "not a completion"),
        ({"choices": []}, "not a completion"),
        (choice(token_ids=None), "sends no token ids.*chat engine.*vLLM 0.10"),
        (choice(logprobs=None), "sends no log-probs.*chat engine"),
        (choice(token_ids=["97", 256]), "not a completion"),
        (choice(token_ids=[97.0, 256]), "not a completion"),
        (choice(token_ids=[-1, 256]), "not a completion"),
        (choice(token_ids=[2**40, 256]), "not a completion"),
        (choice(token_ids=5), "not a completion"),
        (choice(token_ids=[], logprobs={"token_logprobs": []}), "0 tokens, where 1 to"),
        (choice(logprobs={"token_logprobs": [-0.5]}), "1 log-probs for 2 tokens"),
        (choice(logprobs={"token_logprobs": [-0.5, 0.5]}), "not a completion"),
        (choice(logprobs={"token_logprobs": [-0.5, None]}), "not a completion"),
        (choice(logprobs={"token_logprobs": ["-0.5", -1]}), "not a completion"),
        (json.dumps(choice()).replace("-0.25", "NaN"), "not a completion"),
        (json.dumps(choice()).replace("-0.25", "-Infinity"), "not a completion"),
        (json.dumps(choice()).replace("-0.25", "-1e999"), "not a completion"),
        (choice(prompt_token_ids=[1, 7, 8, 9]), "changed the prompt"),
        (choice(finish_reason="abort"), "ended for the reason 'abort'"),
        (choice(finish_reason=None), "ended for the reason 'None'"),
        ({**choice(), "usage": {"prompt_tokens": "many"}}, "not a completion"),
        ({**choice(), "usage": {"prompt_tokens": -4}}, "not a completion"),
        ({**choice(), "usage": 5}, "not a completion"),
    ],
)
def test_malformed_answers(body: Any, message: str) -> None:
    assert answered(choice()).token_ids == (97, 256)
    with pytest.raises(EngineError, match=message):
        answered(body)


def test_more_tokens_than_asked_for_are_refused() -> None:
    with pytest.raises(EngineError, match="2 tokens, where 1 to 1"):
        answered(choice(), max_new_tokens=1)


def test_a_response_ends_with_the_token_that_completes_a_stop_string() -> None:
    body = choice(token_ids=[97, 10, 98], logprobs={"token_logprobs": [-1, -2, -3]}, finish_reason="length")
    response = answered(body, stop=("\n",))
    assert (response.text, response.token_ids, response.logprobs) == ("a\n", (97, 10), (-1.0, -2.0))
    assert response.finish_reason == "stop"


def test_foreign_servers_take_no_weights(server: FakeServer) -> None:
    engine = CompletionsEngine("fake", ByteTokenizer(), base_url=server.url)
    assert isinstance(engine, TokenEngine) and engine.max_positions == 4096, "as the server's list of models says"
    with pytest.raises(EngineError, match="takes no weights: train with"):
        asyncio.run(engine.load_weights({}))
    with pytest.raises(EngineError, match="no model 'other'; there are fake"):
        _ = CompletionsEngine("other", ByteTokenizer(), base_url=server.url).max_positions


def test_a_text_engine_for_servers_without_a_chat_template() -> None:
    def run(answer: Callable[[Any], Any], messages: Any, sampling: Sampling) -> tuple[Response, Any]:
        seen: list[Any] = []

        def handle(request: httpx.Request) -> httpx.Response:
            seen.append(json.loads(request.content))
            return httpx.Response(200, json=answer(seen[-1]))

        engine = CompletionsTextEngine("m", base_url="http://x.test/v1", transport=httpx.MockTransport(handle))
        assert isinstance(engine, TextEngine)
        return asyncio.run(engine.chat(messages, sampling, 1)), seen[0]

    one = [{"role": "user", "content": "task: x\n> "}]
    named = {"choices": [{"text": "go", "finish_reason": "stop", "stop_reason": "\n"}]}
    response, asked = run(lambda asked: named, one, Sampling(stop=("\n",)))
    assert asked["prompt"] == "task: x\n> " and "messages" not in asked and response.text == "go\n"
    unnamed = {"choices": [{"text": "go", "finish_reason": "stop"}]}
    assert run(lambda asked: unnamed, one, Sampling(stop=("\n",)))[0].text == "go"
    several = [*one, {"role": "assistant", "content": "go"}, {"role": "user", "content": "a wall"}]
    assert run(lambda asked: unnamed, several, Sampling())[1]["prompt"] == (
        "user: task: x\n> \n\nassistant: go\n\nuser: a wall\n\nassistant:"
    )
    with pytest.raises(EngineError, match="not a completion"):
        run(lambda asked: {"choices": [{"message": {"content": "x"}}]}, one, Sampling())
    with pytest.raises(EngineError, match="not a text"):
        run(lambda asked: {"choices": [{"text": 7}]}, one, Sampling())


def test_training_with_texts_is_refused_and_says_why(server: FakeServer) -> None:
    policy = make_policy("openai:fake", base_url=server.url)
    manager = RolloutManager(lambda: gym.make("aem/Toy-v0", max_steps=2), policy)
    with pytest.raises(TrainingNeedsTokensError, match="'openai:fake' does not record the tokens it sampled"):
        asyncio.run(manager.collect(TASKS, 2, seed=1))
    assert not server.requests


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte-level, so that ids below 256 are letters of some kind."""
    shape = PresetConfig(tokenizer="byte-bpe", vocab_size=300, hidden_size=16, layers=1, ffn=16)
    return make_preset(shape, tmp_path_factory.mktemp("m"), 0, ["go east west north south"])


def test_policies_of_an_endpoint(server: FakeServer, tokenizer_folder: Path) -> None:
    chat = make_policy("openai:fake", base_url=server.url)
    text = make_policy("openai:fake", base_url=server.url, engine="completions")
    ids = make_policy("openai:fake", base_url=server.url, tokenizer=str(tokenizer_folder))
    assert isinstance(chat, ChatPolicy) and chat.spec.name == "think-action" and chat.sampling.stop == ()
    assert isinstance(text, ChatPolicy) and text.spec.name == "plain" and text.sampling.stop == ("\n",)
    assert isinstance(ids, ModelPolicy) and ids.trainable and ids.name == "openai:fake"
    assert ids.prompt_limit == 4096 - 512, "as the server says"


def run(*arguments: str) -> int:
    from aem_agent.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["run", "aem/Toy-v0", "-n", "2", "--max-steps", "3", *arguments])
    return int(stop.value.code or 0)


def test_evaluation_by_token_ids_over_http(
    server: FakeServer, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = ["-m", "openai:fake", "--base-url", server.url, "--tokenizer", str(tokenizer_folder)]
    assert run(*there, "--temperature", "1", "--max-new-tokens", "40", "-c", "1", "--out", "a") == 0
    turns = [turn for episode in read_episodes(Path("a/episodes.jsonl")) for turn in episode.turns]
    assert len(turns) == 6 and all(turn.response.logprobs and turn.prompt_token_ids for turn in turns)
    assert [list(turn.prompt_token_ids) for turn in turns] == [asked["prompt"] for asked in server.requests]
    config = json.loads(Path("a/config.json").read_text())["config"]
    assert config["tokenizer"] == str(tokenizer_folder) and len(config["hashes"]["tokenizer"]) == 16
    assert run(*there, "--engine", "own:Engine", "--out", "b") == 2
    assert run("-m", "random", "--tokenizer", str(tokenizer_folder), "--out", "b") == 2
    assert run(*there[:-1], "nowhere", "--out", "b") == 2 and not Path("b").exists()


def test_servers_that_give_no_ids_end_with_a_reason(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with FakeServer(["go east"], ids=False) as server:
        there = ["-m", "openai:fake", "--base-url", server.url, "--tokenizer", str(tokenizer_folder)]
        assert run(*there, "--retries", "0", "--out", "a") == 3
    assert "evaluate with the chat engine" in Path("a/episodes.jsonl").read_text()


def summary(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return found


def test_costs_are_summed_up_and_can_be_recomputed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aem_agent.cli import main

    monkeypatch.chdir(tmp_path)
    with FakeServer(["<think>a</think><action>go east</action>"], cost=0.25) as server:
        assert run("-m", "openai:fake", "--base-url", server.url, "--prices", "9,9", "--out", "told") == 0
    with FakeServer(["<think>a</think><action>go east</action>"]) as server:
        assert run("-m", "openai:fake", "--base-url", server.url, "--prices", "100,1000", "--out", "priced") == 0
        assert run("-m", "openai:fake", "--base-url", server.url, "--out", "unknown") == 0
    assert "60 prompt tokens" in capsys.readouterr().out
    assert summary("told")["cost"] == 6 * 0.25, "what an endpoint says counts more than prices"
    assert summary("priced")["cost"] == pytest.approx(6 * (10 * 100 + 2 * 1000) / 1e6)
    assert summary("unknown")["cost"] is None
    for folder, shown in (("told", "cost $1.50"), ("priced", "cost $0.0180")):
        before = summary(folder)
        Path(folder, "summary.json").unlink()
        with pytest.raises(SystemExit):
            main(["score", folder])
        assert summary(folder) == before and shown in capsys.readouterr().out
    assert run("--resume", "priced", "--prices", "1,1") == 2, "prices are part of the configuration"
    for wrong in ("1", "1,2,3", "a,b", "-1,2", "nan,1", "inf,1"):
        assert run("-m", "random", "--prices", wrong, "--out", "x") == 2


@pytest.mark.parametrize(
    ("cost", "known"), [(0.5, 0.5), ({"total_cost": 2}, 2.0), (None, None), ("1", None), (True, None), (-1.0, None)]
)
def test_costs_as_endpoints_tell_them(cost: Any, known: float | None) -> None:
    body = {**choice(), "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cost": cost}}
    assert answered(body).cost == known

"""What every registered token engine must do. `make test-vllm` runs this with the real vLLM as well."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from aem_agent.engines import token_engines, vllm_compat
from aem_agent.engines.fake import ByteTokenizer, FakeTokenEngine, ScriptedEngine
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.types import EngineError, GenerateRequest, Response, Sampling, TokenEngine

PROMPTS = [(7, 8, 9), (10,), (7, 8, 9, 10, 11)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = "go to desk 1 take mug 2 from shelf 3 open drawer look . , stop"
    shape = PresetConfig(init_std=0.2, max_positions=64, heads=2, kv_heads=2, head_dim=32)  # vLLM's least head
    return make_preset(shape, tmp_path_factory.mktemp("m"), 0, [words])


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, TokenEngine]]:
    """Engines that take long to start serve all tests."""
    kept: dict[str, TokenEngine] = {}
    yield kept
    for engine in kept.values():
        run(engine.aclose())


def options(name: str) -> dict[str, Any]:
    if not name.startswith("vllm"):
        return {}
    vllm_compat.release()
    return {"device": vllm_compat.built_for(), "dtype": "float32", "memory_utilization": 0.15}


@pytest.fixture(params=token_engines.names())
def engine(request: pytest.FixtureRequest, folder: Path, started: dict[str, TokenEngine]) -> TokenEngine:
    name = request.param
    if name in started:
        return started[name]
    try:
        made: TokenEngine = token_engines.get(name).load(folder, **options(name))
    except vllm_compat.VllmVersionError as error:
        pytest.skip(f"{error} (`make test-vllm` runs this)")
    if name.startswith("vllm"):
        started[name] = made
    return made


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def requests(**sampling: Any) -> list[GenerateRequest]:
    settings = Sampling(**({"max_new_tokens": 6} | sampling))
    return [GenerateRequest(PROMPTS[i % 3], settings, i) for i in range(12)]


async def answers(engine: TokenEngine, asked: list[GenerateRequest]) -> list[Response]:
    return list(await asyncio.gather(*(engine.generate(r) for r in asked)))


def test_is_a_token_engine(engine: TokenEngine) -> None:
    assert isinstance(engine, TokenEngine) and engine.version >= 0


def test_responses_are_complete(engine: TokenEngine) -> None:
    for response in run(answers(engine, requests(entropies=True))):
        count = len(response.token_ids)
        assert 1 <= count <= 6
        assert response.logprobs is not None and len(response.logprobs) == count
        assert all(x <= 0 for x in response.logprobs)
        assert response.entropies is None or (len(response.entropies) == count and min(response.entropies) >= 0)
        assert response.finish_reason in ("stop", "length")
        assert response.finish_reason == "stop" or count == 6
        assert response.policy_versions == ((0, engine.version),)


def test_answers_depend_on_prompt_and_seed_only(engine: TokenEngine) -> None:
    asked = requests()
    together = run(answers(engine, asked))
    alone = [run(engine.generate(r)) for r in asked]
    assert [r.token_ids for r in together] == [r.token_ids for r in alone]
    assert len({r.token_ids for r in together}) > 3


def test_stop_token_ends_a_response(engine: TokenEngine) -> None:
    free = run(engine.generate(requests()[0]))
    (stopped,) = run(answers(engine, requests(stop_token_ids=(free.token_ids[0],))[:1]))
    assert stopped.token_ids == free.token_ids[:1] and stopped.finish_reason == "stop"


def test_empty_requests_are_refused(engine: TokenEngine) -> None:
    for request in (GenerateRequest((), Sampling(), 0), GenerateRequest((7,), Sampling(max_new_tokens=0), 0)):
        with pytest.raises(EngineError):
            run(engine.generate(request))


def test_loading_weights_counts_versions(engine: TokenEngine, folder: Path) -> None:
    from aem_agent.model.interface import load_model

    async def main() -> list[Response]:
        await engine.load_weights(load_model(folder))
        return await answers(engine, requests())

    before = engine.version
    after = run(main())
    assert engine.version == before + 1
    assert {r.policy_versions for r in after} == {((0, before + 1),)}


def test_closed_engines_refuse(engine: TokenEngine, started: dict[str, TokenEngine]) -> None:
    for name in [name for name, kept in started.items() if kept is engine]:
        del started[name]
    run(engine.aclose())
    with pytest.raises(EngineError, match="closed"):
        run(engine.generate(requests()[0]))


def test_fake_runs_concurrently_and_fails_on_demand() -> None:
    fake = FakeTokenEngine(latency=0.01, fail=lambda call: call == 2)

    async def main() -> list[Any]:
        return await asyncio.gather(*(fake.generate(r) for r in requests()[:5]), return_exceptions=True)

    said = run(main())
    assert fake.most_running == 5 and fake.running == 0
    assert [isinstance(x, EngineError) for x in said] == [False, False, True, False, False]


def test_scripted_engine_says_its_texts_in_turn() -> None:
    engine = ScriptedEngine(["look", "go to desk 1\nand more"], ByteTokenizer())
    asked = requests(max_new_tokens=40, stop=("\n",))
    said = [run(engine.generate(r)) for r in asked[:3]]
    assert [r.text for r in said] == ["look", "go to desk 1\n", "look"]
    assert said[0].token_ids[-1] == 256 and said[1].finish_reason == "stop"

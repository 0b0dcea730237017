"""Weights of a running vLLM are replaced, wholly, and what is not replaced is noticed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from tito import forward_logprobs
from vllm_help import answers, moved, requests, run

from aem_agent.model.interface import LanguageModel, WeightsMismatchError, load_model
from aem_agent.types import EngineError, GenerateRequest, Response, Sampling, WeightParityError

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture(params=["untied", "tied"])
def case(request: pytest.FixtureRequest) -> tuple[Any, Path]:
    name = "vllm_engine" if request.param == "untied" else "vllm_tied_engine"
    folder = "vllm_folder" if request.param == "untied" else "vllm_tied_folder"
    return request.getfixturevalue(name), request.getfixturevalue(folder)


def worst(model: LanguageModel, request: GenerateRequest, response: Response) -> float:
    want = forward_logprobs(model, request.prompt_token_ids, response.token_ids, request.sampling.temperature)
    assert response.logprobs is not None
    return max(abs(a - b) for a, b in zip(want, response.logprobs, strict=True))


def test_new_weights_answer_in_every_form(case: tuple[Any, Path]) -> None:
    engine, folder = case
    asked = requests(4)
    for seed, form in enumerate(("module", "own names", "transformers' names")):
        model = moved(folder, seed)
        state = {"module": model, "own names": model.state_dict(), "transformers' names": dict(model.export())}[form]
        before, old = engine.version, load_model(folder)
        run(engine.load_weights(state))
        assert engine.version == before + 1
        for request, response in zip(asked, run(answers(engine, asked))):
            assert response.policy_versions == ((0, before + 1),)
            assert worst(model, request, response) < 1e-4
            assert worst(old, request, response) > 1e-2


def test_what_was_computed_with_old_weights_is_forgotten(case: tuple[Any, Path]) -> None:
    """The same long prompt, whose keys and values vLLM has kept, before and after."""
    engine, folder = case
    (request,) = [GenerateRequest(tuple(range(20, 220)), Sampling(max_new_tokens=8), 0)]
    for seed in (3, 4):
        model = moved(folder, seed)
        run(engine.load_weights(model))
        for _ in range(2):
            assert worst(model, request, run(engine.generate(request))) < 1e-4


def test_a_response_may_span_two_versions(case: tuple[Any, Path]) -> None:
    """Its first tokens have the old weights' log-probs, the others the new ones', keys and values included."""
    engine, folder = case
    old, new = moved(folder, 5), moved(folder, 6)
    asked = [GenerateRequest((7, 8, 9, i), Sampling(max_new_tokens=400), i) for i in range(10, 26)]

    async def main() -> list[Response]:
        await engine.load_weights(old)
        tasks = [asyncio.ensure_future(engine.generate(r)) for r in asked]
        await asyncio.sleep(0.3)
        await engine.load_weights(new, running="keep")
        return await asyncio.gather(*tasks)

    responses = run(main())
    last = engine.version
    spanning = [(q, r) for q, r in zip(asked, responses) if len(r.policy_versions) == 2]
    assert spanning
    for request, response in spanning:
        (_, first), (start, second) = response.policy_versions
        assert (first, second) == (last - 1, last) and 0 < start < len(response.token_ids)
        with_old = forward_logprobs(old, request.prompt_token_ids, response.token_ids, 1.0)
        with_new = forward_logprobs(new, request.prompt_token_ids, response.token_ids, 1.0)
        assert response.logprobs is not None
        assert response.logprobs[:start] == pytest.approx(with_old[:start], abs=1e-4)
        assert response.logprobs[start:] == pytest.approx(with_new[start:], abs=1e-4)


def test_waiting_lets_requests_in_flight_finish_under_the_old_weights(case: tuple[Any, Path]) -> None:
    engine, folder = case
    old, new = moved(folder, 7), moved(folder, 8)
    asked = [GenerateRequest((7, 8, 9, i), Sampling(max_new_tokens=200), i) for i in range(10, 18)]

    async def main() -> tuple[list[Response], list[Response]]:
        await engine.load_weights(old)
        before = [asyncio.ensure_future(engine.generate(r)) for r in asked]
        await asyncio.sleep(0.05)
        update = asyncio.ensure_future(engine.load_weights(new))
        await asyncio.sleep(0.02)
        after = [asyncio.ensure_future(engine.generate(r)) for r in asked]
        await update
        return await asyncio.gather(*before), await asyncio.gather(*after)

    first, second = run(main())
    for model, responses, version in ((old, first, engine.version - 1), (new, second, engine.version)):
        assert {r.policy_versions for r in responses} == {((0, version),)}
        assert max(worst(model, q, r) for q, r in zip(asked, responses)) < 1e-4


class Misled:
    """Exports other weights than it computes with: what a lost update looks like."""

    def __init__(self, model: LanguageModel, other: LanguageModel, only: str = "") -> None:
        self._model, self._other, self._only = model, other, only

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def export(self) -> Any:
        stale = dict(self._other.export())
        return ((n, stale[n] if self._only in n else w) for n, w in self._model.export())


@pytest.mark.parametrize("running", ["wait", "keep"])
@pytest.mark.parametrize("only", ["", "embed_tokens", "layers.1.mlp.down_proj"])
def test_stale_weights_are_noticed_and_answer_nothing(
    case: tuple[Any, Path], only: str, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aem_agent.engines import vllm_transfer

    engine, folder = case
    good, new = moved(folder, 9), moved(folder, 10)
    with monkeypatch.context() as patch:
        patch.setattr(vllm_transfer, "as_model", lambda state, folder: state)
        asked = [GenerateRequest((7, 8, 9), Sampling(max_new_tokens=400), i) for i in range(4)]

        async def main() -> list[Any]:
            await engine.load_weights(good)
            tasks = [asyncio.ensure_future(engine.generate(r)) for r in asked]
            await asyncio.sleep(0.1)
            with pytest.raises(WeightParityError, match="differ by"):
                await engine.load_weights(Misled(new, good, only), running=running)
            return await asyncio.gather(*tasks, return_exceptions=True)

        ended = run(main())
    if running == "keep":
        assert any(isinstance(x, EngineError) for x in ended)
    else:
        assert all(isinstance(x, Response) for x in ended)
    for response in ended:
        assert isinstance(response, EngineError) or response.policy_versions == ((0, engine.version - 1),)
    with pytest.raises(EngineError, match="load weights again"):
        run(engine.generate(asked[0]))
    run(engine.load_weights(good))
    assert worst(good, asked[0], run(engine.generate(asked[0]))) < 1e-4


def small_step(model: LanguageModel, size: float) -> LanguageModel:
    """Adam's first: each weight by the learning rate, one way or the other."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.sign(torch.randn(p.shape, generator=generator)))
    return model


@pytest.mark.parametrize("lost", ["all", "a chunk"])
def test_small_steps_that_were_lost_are_noticed_in_half_precision(
    vllm_half_engine: Any, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-probs of the probe hardly move; the weights that vLLM computes with are told exactly, every one of them."""
    from aem_agent.engines import vllm_digest, vllm_transfer

    engine, rpc = vllm_half_engine, vllm_half_engine.sender._rpc
    model = load_model(engine.settings.folder)
    found: list[int] = []
    compare = vllm_digest.assert_arrived
    monkeypatch.setattr(vllm_digest, "assert_arrived", lambda *a: found.append(compare(*a)))
    monkeypatch.setattr(vllm_transfer, "CHUNK_BYTES", 50_000)
    run(engine.load_weights(model))
    assert found == [len(dict(model.export()))]
    updates: list[Any] = []

    def losing(what: str, info: Any) -> None:
        if what == "update":
            updates.append(info)
            if lost == "all" or len(updates) == 2:
                return
        rpc(what, info)

    with monkeypatch.context() as patch:
        patch.setattr(engine.sender, "_rpc", losing)
        with pytest.raises(WeightParityError, match="computes with other weights"):
            run(engine.load_weights(small_step(model, 1e-5)))
    assert len(updates) > 2
    with pytest.raises(EngineError, match="load weights again"):
        run(engine.generate(requests(1)[0]))
    run(engine.load_weights(model))
    assert run(engine.generate(requests(1)[0])).token_ids


def test_after_an_update_that_broke_off_the_next_one_counts(
    case: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aem_agent.engines import vllm_transfer

    class Torn(Misled):
        def export(self) -> Any:
            for name, weight in self._model.export():
                if "layers.1" in name:
                    raise ConnectionError("half way")
                yield name, weight

    engine, folder = case
    new, (request,) = moved(folder, 12), requests(1)
    with monkeypatch.context() as patch:
        patch.setattr(vllm_transfer, "as_model", lambda state, folder: state)
        patch.setattr(vllm_transfer, "CHUNK_BYTES", 50_000)
        with pytest.raises(EngineError, match="half way"):
            run(engine.load_weights(Torn(new, new)))
        with pytest.raises(EngineError, match="load weights again"):
            run(engine.generate(request))
        run(engine.load_weights(new))
    assert worst(new, request, run(engine.generate(request))) < 1e-4


def test_weights_of_another_shape_change_nothing(case: tuple[Any, Path]) -> None:
    engine, folder = case
    model = load_model(folder)
    run(engine.load_weights(model))
    state = dict(model.export())
    for wrong in ({k: v for k, v in state.items() if "norm" not in k}, state | {"model.norm.weight": torch.ones(3)}):
        with pytest.raises(WeightsMismatchError):
            run(engine.load_weights(wrong))
    with pytest.raises(EngineError, match="hand over"):
        run(engine.load_weights(42))
    (request,) = requests(1)
    assert worst(model, request, run(engine.generate(request))) < 1e-4


def test_a_cpu_does_not_sleep_and_says_so(vllm_engine: Any) -> None:
    if vllm_engine.settings.device != "cpu":
        pytest.skip("this vLLM is built for GPUs")
    for level, word in ((1, "CPUs"), (2, "CPUs"), (3, "level 3")):
        with pytest.raises(EngineError, match=word):
            run(vllm_engine.sleep(level))

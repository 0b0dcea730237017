"""The torch engine: batching of concurrent requests, rows that come and go, determinism, errors, cancellation."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_help import all_of, asked, assert_true_logprobs, changed, endless, fed_of, joins_of, make, run, until

from aem_agent.engines.admission import Admission
from aem_agent.engines.torch_engine import STEPS_AWAY, TorchEngine
from aem_agent.model.interface import load_model, load_tokenizer
from aem_agent.model.sampler import Row
from aem_agent.types import ContextOverflowError, EngineError, GenerateRequest, Response, Sampling

UNDRAWABLE = [
    *((Sampling(temperature=t), "temperature") for t in (1e-42, 9e-5, -1.0, float("nan"), float("inf"))),
    *((Sampling(top_p=p), "top_p") for p in (0.0, -1.0, 1.5, float("nan"), float("inf"))),
    (Sampling(stop=("x", "")), "stop string"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("deterministic", [True, False])
def test_concurrent_requests_become_one_batch(folder: Path, deterministic: bool) -> None:
    engine = TorchEngine.load(folder, deterministic=deterministic, max_batch=8)
    joined = joins_of(engine)

    async def play(request: GenerateRequest) -> list[Response]:
        said = []
        for _ in range(3):
            said.append(await engine.generate(request))
            await asyncio.sleep(0)  # an environment that steps
        return said

    async def main() -> Any:
        return await asyncio.gather(*(play(r) for r in asked(8)))

    answers = run(main())
    assert [len(x) for x in joined] == [8, 8, 8]
    for request, said in zip(asked(8), answers, strict=True):
        assert said[0].token_ids == said[1].token_ids == said[2].token_ids
        assert run(engine.generate(request)).token_ids == said[0].token_ids
    run(engine.aclose())


@pytest.mark.parametrize("deterministic", [True, False])
def test_rows_are_replaced_while_others_decode(folder: Path, deterministic: bool) -> None:
    engine = endless(folder, max_batch=4, deterministic=deterministic)
    joined, rows = joins_of(engine), fed_of(engine)
    asks = [replace(r, sampling=replace(r.sampling, max_new_tokens=3 + 9 * (i % 3))) for i, r in enumerate(asked(12))]
    order: list[int] = []

    async def play(request: GenerateRequest) -> Response:
        said = await engine.generate(request)
        order.append(request.sampling.max_new_tokens)
        return said

    async def main() -> Any:
        return await asyncio.gather(*(play(r) for r in asks))

    answers = run(main())
    assert len(joined[0]) == 4 and len(joined) > 3 and max(rows) == 4
    assert order[0] == 3 and sorted(order) != order, "short answers come back while long ones go on"
    assert sum(rows) == sum(len(a.token_ids) - 1 for a in answers), "no row is decoded that is finished"
    for request, said in zip(asks, answers, strict=True):
        assert_true_logprobs(engine.model, request, said)
        assert run(engine.generate(request)).token_ids == said.token_ids
    run(engine.aclose())


def test_late_requests_join_before_long_ones_end(folder: Path) -> None:
    engine = endless(folder, admission=Admission(price=2.0, patience=6))
    long, short = asked(8, new=40), asked(2, new=3)[1:]
    done: list[str] = []

    async def ask(request: GenerateRequest, name: str, after: int) -> Response:
        for _ in range(after):
            await asyncio.sleep(0)
        said = await engine.generate(request)
        done.append(name)
        return said

    async def main() -> Any:
        late = [ask(short[0], "late", 10)]
        return await asyncio.gather(*(ask(r, "long", 0) for r in long), *late)

    *_, said = run(main())
    assert done[0] == "late"
    assert_true_logprobs(engine.model, short[0], said)


def test_same_requests_in_another_order_repeat_bit_for_bit(folder: Path) -> None:
    requests = asked(30)
    engine = TorchEngine.load(folder)
    joined = joins_of(engine)
    first, second = run(all_of(engine, requests)), run(all_of(engine, requests[::-1]))
    assert first == second[::-1]
    assert joined[0] == joined[1] == sorted(joined[0])


def test_a_run_repeats_bit_for_bit_with_rows_that_come_and_go(folder: Path) -> None:
    def play(engine: TorchEngine) -> Any:
        async def episode(number: int) -> list[Response]:
            said, prompt = [], tuple(range(7, 9 + number % 5))
            for turn in range(4):
                request = GenerateRequest(prompt, Sampling(max_new_tokens=2 + (3 * number + turn) % 9), number, number)
                said.append(await engine.generate(request))
                prompt += (*said[-1].token_ids[:4], 7, 8)
                for _ in range(number % 3):
                    await asyncio.sleep(0)
            return said

        async def main() -> Any:
            return await asyncio.gather(*(episode(n) for n in range(12)))

        engine.forget()
        return run(main())

    engine = TorchEngine.load(folder, max_batch=5)
    first = play(engine)
    assert play(engine) == first == play(TorchEngine.load(folder, max_batch=5))


def test_bad_requests_are_typed_and_leave_others_alone(folder: Path) -> None:
    engine = TorchEngine.load(folder)
    ok = asked(1)[0]
    bad = [
        (GenerateRequest((7,) * 62, Sampling(max_new_tokens=5), 0), ContextOverflowError),
        (GenerateRequest((), Sampling(), 0), EngineError),
        (GenerateRequest((7,), Sampling(max_new_tokens=0), 0), EngineError),
        (GenerateRequest((7, 10**6), Sampling(max_new_tokens=5), 0), EngineError),
        (GenerateRequest((-1,), Sampling(max_new_tokens=5), 0), EngineError),
        *((GenerateRequest((7,), replace(s, max_new_tokens=5), 0), EngineError) for s, _ in UNDRAWABLE),
    ]

    async def main() -> list[Any]:
        asks = [engine.generate(ok), *(engine.generate(request) for request, _ in bad)]
        return await asyncio.gather(*asks, return_exceptions=True)

    first, *rest = run(main())
    assert isinstance(first, Response)
    assert [type(e) for e in rest] == [kind for _, kind in bad]
    for error, (_, setting) in zip(rest[-len(UNDRAWABLE) :], UNDRAWABLE, strict=True):
        assert setting in str(error)


def test_the_borders_of_what_can_be_drawn(folder: Path) -> None:
    engine = TorchEngine.load(folder)
    for sampling in (Sampling(1e-4, 1e-9), Sampling(0, 1e-9), Sampling(1e30), Sampling(-0.0)):
        request = replace(asked(1)[0], sampling=replace(sampling, max_new_tokens=5, entropies=True))
        said = run(engine.generate(request))
        assert said.logprobs is not None and max(said.logprobs) <= 1e-3


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, 0.9), Sampling(0, entropies=True), Sampling(0)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_answer(folder: Path, sampling: Sampling, value: float) -> None:
    model = load_model(folder)
    engine = TorchEngine(model, load_tokenizer(folder), share=True)
    weight = model.get_parameter("norm.weight")
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(value)
    asks = [replace(r, sampling=replace(sampling, max_new_tokens=5), conversation=i) for i, r in enumerate(asked(3))]

    async def main() -> list[Any]:
        return await asyncio.gather(*(engine.generate(r) for r in asks), return_exceptions=True)

    for error in run(main()):
        assert type(error) is EngineError and str(error).startswith("the model's logits are not finite")
    with torch.no_grad():
        weight.copy_(kept)
    for request, said in zip(asked(3), run(all_of(engine, asked(3))), strict=True):
        assert_true_logprobs(model, request, said)


@pytest.mark.parametrize("deterministic", [True, False])
def test_closing_finishes_what_was_asked_and_refuses_what_comes(folder: Path, deterministic: bool) -> None:
    engine, other = endless(folder, deterministic=deterministic), changed(folder)

    async def main() -> list[Any]:
        running = [asyncio.ensure_future(engine.generate(r)) for r in asked(4, new=40)]
        await until(lambda: bool(engine._running))
        loading = asyncio.ensure_future(engine.load_weights(other))
        await until(lambda: bool(engine._held))
        late = asyncio.ensure_future(engine.generate(asked(1)[0]))
        await until(lambda: bool(engine._waiting))
        await engine.aclose()
        for running_too in ("wait", "keep"):
            with pytest.raises(EngineError, match="the engine is closed"):
                await engine.load_weights(other, running=running_too)  # type: ignore[arg-type]
        with pytest.raises(EngineError, match="the engine is closed"):
            await engine.generate(asked(1)[0])
        await engine.aclose()
        assert all(task.done() for task in (*running, loading, late))
        await loading
        return [await task for task in (*running, late)]

    *first, last = run(main())
    assert [said.policy_versions for said in first] == [((0, 0),)] * 4 and engine.version == 1
    assert last.policy_versions == ((0, 1),)
    assert_true_logprobs(other, asked(1)[0], last)


@pytest.mark.parametrize("deterministic", [True, False])
def test_failures_reach_every_request_in_flight_and_no_later_one(folder: Path, deterministic: bool) -> None:
    engine = endless(folder, deterministic=deterministic, max_batch=2)
    inner, calls = engine._sampler.draw, 0

    def draw() -> list[Row]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError("once")
        return inner()

    engine._sampler.draw = draw  # type: ignore[method-assign]

    async def main() -> list[Any]:
        return await asyncio.gather(*(engine.generate(r) for r in asked(4)), return_exceptions=True)

    *errors, third, fourth = run(main())
    assert all(isinstance(e, EngineError) and "ZeroDivisionError" in str(e) for e in errors)
    for request, said in zip(asked(4)[2:], (third, fourth), strict=True):
        assert_true_logprobs(engine.model, request, said)
    assert len(run(all_of(engine, asked(3)))) == 3
    run(engine.aclose())


def test_cancelled_requests_are_not_run(folder: Path) -> None:
    engine = TorchEngine.load(folder)
    joined = joins_of(engine)

    async def main() -> None:
        tasks = [asyncio.create_task(engine.generate(r)) for r in asked(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks)

    run(main())
    assert [len(x) for x in joined] == [3]


@pytest.mark.parametrize("deterministic", [True, False])
def test_cancelled_rows_are_not_decoded_further(folder: Path, deterministic: bool) -> None:
    engine = endless(folder, deterministic=deterministic)
    rows, asks, before = fed_of(engine), asked(4, new=40), list[int]()

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(engine.generate(r)) for r in asks]
        await until(lambda: len(rows) > 4)
        tasks[1].cancel()
        before.append(len(rows))
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(main())
    assert isinstance(answers.pop(1), asyncio.CancelledError)
    away = 0 if deterministic else STEPS_AWAY
    assert rows == sorted(rows, reverse=True) and set(rows) == {4, 3} and rows.count(4) <= before[0] + away
    for request, said in zip(asks[:1] + asks[2:], answers, strict=True):
        assert_true_logprobs(engine.model, request, said)
    run(engine.aclose())


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_event_loop_that_ends_leaves_nothing_behind(folder: Path, deterministic: bool) -> None:
    engine = endless(folder, deterministic=deterministic, max_batch=2)

    async def main() -> None:
        tasks = [asyncio.ensure_future(engine.generate(r)) for r in asked(4, new=40)]
        await until(lambda: bool(engine._running))
        assert not any(task.done() for task in tasks)

    run(main())
    for request, said in zip(asked(3), run(all_of(engine, asked(3))), strict=True):
        assert_true_logprobs(engine.model, request, said)
    run(engine.aclose())

"""The torch engine: batching of concurrent requests, determinism, weight sync with parity, errors."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import torch

from aem_agent.engines.torch_engine import TorchEngine, WeightParityError, assert_parity
from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import LanguageModel, WeightsMismatchError, load_model, load_tokenizer
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.types import ContextOverflowError, EngineError, GenerateRequest, Response, Sampling

WORDS = "go to desk 1 take mug 2 from shelf 3 open drawer look . , stop"


def make(folder: Path, **changes: Any) -> Path:
    return make_preset(
        PresetConfig(**({"init_std": 0.2, "max_positions": 64, "layers": 2} | changes)), folder, 0, [WORDS]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"))


def asked(count: int, new: int = 5) -> list[GenerateRequest]:
    return [
        GenerateRequest(tuple(range(7, 9 + i % 6)), Sampling(max_new_tokens=new, entropies=True), 100 - i)
        for i in range(count)
    ]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def sizes_of(engine: TorchEngine) -> list[int]:
    """The sizes of batches run from now on."""
    sizes: list[int] = []
    inner = engine._sampler

    def counted(requests: list[GenerateRequest], version: int) -> list[Response]:
        sizes.append(len(requests))
        return inner(requests, version)

    engine._sampler = counted  # type: ignore[assignment]
    return sizes


async def all_of(engine: TorchEngine, requests: list[GenerateRequest]) -> list[Response]:
    return list(await asyncio.gather(*(engine.generate(r) for r in requests)))


@pytest.mark.parametrize("deterministic", [True, False])
def test_concurrent_requests_become_one_batch(folder: Path, deterministic: bool) -> None:
    engine = TorchEngine.load(folder, deterministic=deterministic, max_batch=8)
    sizes = sizes_of(engine)

    async def play(request: GenerateRequest) -> list[Response]:
        said = []
        for _ in range(3):
            said.append(await engine.generate(request))
            await asyncio.sleep(0)  # an environment that steps
        return said

    async def main() -> Any:
        return await asyncio.gather(*(play(r) for r in asked(8)))

    answers = run(main())
    assert sizes == [8, 8, 8]
    for request, said in zip(asked(8), answers, strict=True):
        assert said[0].token_ids == said[1].token_ids == said[2].token_ids
        assert run(engine.generate(request)).token_ids == said[0].token_ids
    run(engine.aclose())


def test_large_crowds_are_split(folder: Path) -> None:
    engine = TorchEngine.load(folder, max_batch=8)
    sizes = sizes_of(engine)
    answers = run(all_of(engine, asked(20)))
    assert sizes == [8, 8, 4] and len(answers) == 20


def test_same_requests_in_another_order_repeat_bit_for_bit(folder: Path) -> None:
    requests = asked(30)
    engine, orders = TorchEngine.load(folder), []
    inner = engine._sampler

    def noted(batch: list[GenerateRequest], version: int) -> list[Response]:
        orders.append([r.seed for r in batch])
        return inner(batch, version)

    engine._sampler = noted  # type: ignore[assignment]
    first, second = run(all_of(engine, requests)), run(all_of(engine, requests[::-1]))
    assert first == second[::-1]
    assert orders[0] == orders[1] == sorted(orders[0])


def test_versions_are_recorded(folder: Path) -> None:
    engine = TorchEngine.load(folder)

    async def main() -> list[Response]:
        first = await engine.generate(asked(1)[0])
        await engine.load_weights(load_model(folder))
        return [first, await engine.generate(asked(1)[0])]

    first, second = run(main())
    assert engine.version == 1
    assert first.policy_versions == ((0, 0),) and second.policy_versions == ((0, 1),)
    assert first.token_ids == second.token_ids and first.logprobs == second.logprobs


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("as_state", [False, True])
def test_new_weights_are_sampled_from(tmp_path: Path, tied: bool, as_state: bool) -> None:
    engine = TorchEngine.load(make(tmp_path, tied=tied))
    trained = load_model(tmp_path)
    with torch.no_grad():
        for p in trained.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    run(engine.load_weights(trained.state_dict() if as_state else trained))
    (answer,) = run(all_of(engine, asked(1)))
    tokens = torch.tensor([*asked(1)[0].prompt_token_ids, *answer.token_ids])
    with torch.no_grad():
        logp = trained.head(trained.hidden(tokens, torch.tensor([0, len(tokens)]))).log_softmax(-1)
    want = [float(logp[len(tokens) - len(answer.token_ids) - 1 + i, t]) for i, t in enumerate(answer.token_ids)]
    assert answer.logprobs == pytest.approx(want, abs=1e-5)


def test_a_shared_module_is_not_copied_but_checked(folder: Path) -> None:
    model = load_model(folder)
    engine = TorchEngine(model, load_tokenizer(folder), share=True)
    run(engine.load_weights(model))
    assert engine.version == 1 and engine.model is model


class StaleHead(Decoder):
    """Takes every weight but the head's: what some servers do with tied embeddings, silently."""

    def load_stale(self, other: LanguageModel) -> None:
        kept = self.lm_head.weight.detach().clone() if self.lm_head else self.embed.weight.detach().clone()
        self.load_state_dict(other.state_dict())
        self.stale = kept

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.stale.T


@pytest.mark.parametrize("tied", [False, True])
def test_a_stale_head_is_caught(tmp_path: Path, tied: bool) -> None:
    trainer = load_model(make(tmp_path, tied=tied))
    assert isinstance(trainer, Decoder)
    engine_model = StaleHead(trainer.config).init_weights(3, 0.4)
    assert isinstance(engine_model, StaleHead)
    engine_model.load_stale(trainer)
    with pytest.raises(WeightParityError, match="differ by"):
        assert_parity(trainer, engine_model)
    engine_model.stale = trainer.embed.weight if trainer.lm_head is None else trainer.lm_head.weight
    assert_parity(trainer, engine_model)


def test_foreign_and_broken_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    engine = TorchEngine.load(folder)
    state = load_model(folder).state_dict()
    with pytest.raises(WeightsMismatchError, match="another architecture"):
        run(engine.load_weights({k: v for k, v in state.items() if "norm1" not in k}))
    with pytest.raises(WeightsMismatchError, match="is \\("):
        run(engine.load_weights(load_model(make(tmp_path, ffn=32))))
    with pytest.raises(WeightParityError):
        run(engine.load_weights({k: v * torch.nan for k, v in state.items()}))


def test_weights_wait_for_running_requests(folder: Path) -> None:
    engine = TorchEngine.load(folder, deterministic=False, max_batch=2)

    async def main() -> tuple[list[Response], int]:
        tasks = [asyncio.create_task(engine.generate(r)) for r in asked(6)]
        for _ in range(8):
            await asyncio.sleep(0)
        await engine.load_weights(load_model(folder))
        return list(await asyncio.gather(*tasks)), engine.version

    answers, version = run(main())
    versions = [a.policy_versions[0][1] for a in answers]
    assert version == 1 and versions == sorted(versions)
    assert versions[:2] == [0, 0] and versions[-1] == 1, "the first batch ran before, the last after"
    run(engine.aclose())


def test_bad_requests_are_typed_and_leave_others_alone(folder: Path) -> None:
    engine = TorchEngine.load(folder)
    ok = asked(1)[0]
    bad = [
        (GenerateRequest((7,) * 62, Sampling(max_new_tokens=5), 0), ContextOverflowError),
        (GenerateRequest((), Sampling(), 0), EngineError),
        (GenerateRequest((7,), Sampling(max_new_tokens=0), 0), EngineError),
        (GenerateRequest((7, 10**6), Sampling(max_new_tokens=5), 0), EngineError),
        (GenerateRequest((-1,), Sampling(max_new_tokens=5), 0), EngineError),
    ]

    async def main() -> list[Any]:
        asks = [engine.generate(ok), *(engine.generate(request) for request, _ in bad)]
        return await asyncio.gather(*asks, return_exceptions=True)

    first, *rest = run(main())
    assert isinstance(first, Response)
    assert [type(e) for e in rest] == [kind for _, kind in bad]


def test_failures_reach_every_waiting_request(folder: Path) -> None:
    engine = TorchEngine.load(folder)
    inner = engine._sampler
    engine._sampler = lambda *_: 1 / 0  # type: ignore[assignment]

    async def main() -> list[Any]:
        return await asyncio.gather(*(engine.generate(r) for r in asked(3)), return_exceptions=True)

    errors = run(main())
    assert all(isinstance(e, EngineError) and "ZeroDivisionError" in str(e) for e in errors)
    engine._sampler = inner
    assert len(run(all_of(engine, asked(3)))) == 3


def test_cancelled_requests_are_not_run(folder: Path) -> None:
    engine = TorchEngine.load(folder)
    sizes = sizes_of(engine)

    async def main() -> None:
        tasks = [asyncio.create_task(engine.generate(r)) for r in asked(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks)

    run(main())
    assert sizes == [3]

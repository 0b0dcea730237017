"""New weights in the torch engine: parity, versions, and what becomes of requests in flight."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch_help import all_of, asked, assert_true_logprobs, changed, endless, make, run, until

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.engines.torch_weights import assert_parity
from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import LanguageModel, WeightsMismatchError, load_model, load_tokenizer
from aem_agent.types import EngineError, Response, Sampling, WeightParityError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"))


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
    trained = changed(tmp_path)
    run(engine.load_weights(trained.state_dict() if as_state else trained))
    (answer,) = run(all_of(engine, asked(1)))
    assert_true_logprobs(trained, asked(1)[0], answer)


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


def half(model: LanguageModel) -> Decoder:
    assert isinstance(model, Decoder)
    found = model.bfloat16()
    found.reset_buffers()
    return found


def test_half_precision_may_round_unlikely_tokens_but_no_head_is_stale(tmp_path: Path) -> None:
    """Logits of up to 25, where neighbours in bfloat16 are 0.125 apart: rounding alone moves log-probs by more than 0.1
    nats. Of unlikely tokens nothing is asked; a head of other weights is caught."""
    config = replace(half(load_model(make(tmp_path, hidden_size=64, layers=4))).config, vocab_size=4000)
    trainer = half(Decoder(config).init_weights(0, 0.1))
    probe = torch.arange(12) * 7 + 3
    with torch.no_grad():
        weight = (trainer.embed if trainer.lm_head is None else trainer.lm_head).weight.mul_(8)
        logits = trainer.head(trainer.hidden(probe, torch.tensor([0, 12])))
    assert 16 < float(logits.max()) < 64
    engine_model = StaleHead(config).init_weights(3, 0.1)
    assert isinstance(engine_model, StaleHead)
    half(engine_model).load_stale(trainer)
    with pytest.raises(WeightParityError, match="differ by"):
        assert_parity(trainer, engine_model)
    engine_model.stale = weight.detach().clone()
    assert_parity(trainer, engine_model)
    engine_model.stale[logits.log_softmax(-1).amax(0).argmin()] = 0  # the least likely token, unlikely still
    assert_parity(trainer, engine_model)
    engine_model.stale *= torch.nan
    with pytest.raises(WeightParityError, match="nan"):
        assert_parity(trainer, engine_model)


def test_where_no_token_is_likely_the_likeliest_are_compared(tmp_path: Path) -> None:
    config = replace(half(load_model(make(tmp_path))).config, vocab_size=5000)
    trainer, engine_model = half(Decoder(config).init_weights(0, 0.001)), StaleHead(config).init_weights(3)
    assert isinstance(engine_model, StaleHead)
    half(engine_model).load_stale(trainer)
    weight = (trainer.embed if trainer.lm_head is None else trainer.lm_head).weight
    engine_model.stale = weight.detach().clone()
    assert_parity(trainer, engine_model)
    engine_model.stale[:2500] += 1
    with pytest.raises(WeightParityError, match="differ by"):
        assert_parity(trainer, engine_model)


class OneKept(Decoder):
    """Gives a copy of one weight to whoever would write to it, which is then lost: the weight stays as it was."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        found = super().state_dict(*args, **kwargs)
        return found | {"norm.weight": found["norm.weight"].clone()} if "norm.weight" in found else found


def test_the_smallest_stale_weight_is_caught_in_half_precision(tmp_path: Path) -> None:
    """No log-prob would tell: one number in one norm is off by one in its last digit."""
    folder = make(tmp_path)
    trainer = half(load_model(folder))
    stale = OneKept(trainer.config).bfloat16()
    stale.reset_buffers()
    nn.Module.load_state_dict(stale, trainer.state_dict())
    engine = TorchEngine(stale, load_tokenizer(folder))
    run(engine.load_weights(trainer))
    with torch.no_grad():
        trainer.norm.weight[0] += 2**-7
    assert_parity(trainer, stale)
    with pytest.raises(WeightParityError, match=r"'norm\.weight' differs from the weights just loaded"):
        run(engine.load_weights(trainer))


def test_foreign_and_broken_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    engine = TorchEngine.load(folder)
    state = load_model(folder).state_dict()
    with pytest.raises(WeightsMismatchError, match="another architecture"):
        run(engine.load_weights({k: v for k, v in state.items() if "norm1" not in k}))
    with pytest.raises(WeightsMismatchError, match="is \\("):
        run(engine.load_weights(load_model(make(tmp_path, ffn=32))))
    with pytest.raises(WeightParityError):
        run(engine.load_weights({k: v * torch.nan for k, v in state.items()}))


@pytest.mark.parametrize("deterministic", [True, False])
def test_weights_wait_for_running_requests(folder: Path, deterministic: bool) -> None:
    engine = endless(folder, deterministic=deterministic, max_batch=2)
    old, new = load_model(folder), changed(folder)
    asks = [replace(r, sampling=replace(r.sampling, max_new_tokens=20 + 10 * (i % 2))) for i, r in enumerate(asked(6))]

    async def main() -> tuple[list[Response], int]:
        tasks = [asyncio.create_task(engine.generate(r)) for r in asks]
        await until(lambda: len(engine._running) == 2)
        await engine.load_weights(new)
        assert [t.done() for t in tasks] == [True] * 2 + [False] * 4
        return list(await asyncio.gather(*tasks)), engine.version

    answers, version = run(main())
    assert version == 1
    assert [a.policy_versions for a in answers] == [((0, 0),)] * 2 + [((0, 1),)] * 4
    for i, (request, said) in enumerate(zip(asks, answers, strict=True)):
        assert_true_logprobs(old if i < 2 else new, request, said)
    run(engine.aclose())


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("share", [False, True])
def test_weights_change_between_two_tokens(folder: Path, deterministic: bool, share: bool) -> None:
    engine = endless(folder, deterministic=deterministic, share=share, max_batch=6)
    old, new = load_model(folder), changed(folder)
    asks = [replace(r, conversation=i) for i, r in enumerate(asked(8, new=40))]

    async def main() -> list[Response]:
        tasks = [asyncio.create_task(engine.generate(r)) for r in asks]
        await until(lambda: any(len(row.ids) > 3 for row in engine._sampler.rows))
        if share:
            engine.model.load_state_dict(new.state_dict())
        await engine.load_weights(engine.model if share else new, running="keep")
        return list(await asyncio.gather(*tasks))

    answers = run(main())
    for i, (request, said) in enumerate(zip(asks, answers, strict=True)):
        *before, (cut, version) = said.policy_versions
        assert version == 1 and before == ([(0, 0)] if i < 6 else []) and (3 < cut < 40 if i < 6 else cut == 0)
        assert_true_logprobs(new, request, said, cut)
        assert said.logprobs is not None
        was = replace(said, token_ids=said.token_ids[:cut], logprobs=said.logprobs[:cut])
        if cut and not (share and not deterministic):  # a worker thread may see a shared module half written
            assert_true_logprobs(old, request, was)
    for request, said in zip(asks, answers, strict=True):  # nothing of the old weights is taken up again
        longer = replace(request, prompt_token_ids=request.prompt_token_ids + said.token_ids[:9], sampling=Sampling())
        longer = replace(longer, sampling=replace(longer.sampling, max_new_tokens=5))
        assert_true_logprobs(new, longer, run(engine.generate(longer)))
    run(engine.aclose())


def test_a_failed_update_fails_those_in_flight(folder: Path) -> None:
    engine = endless(folder)

    async def main(state: Any) -> list[Any]:
        tasks = [asyncio.create_task(engine.generate(r)) for r in asked(3, new=30)]
        await until(lambda: len(engine._running) == 3)
        with pytest.raises((WeightParityError, WeightsMismatchError)):
            await engine.load_weights(state, running="keep")
        return await asyncio.gather(*tasks, return_exceptions=True)

    state = load_model(folder).state_dict()
    assert all(isinstance(x, Response) for x in run(main(dict(list(state.items())[1:]))))
    errors = run(main({k: v * torch.nan for k, v in state.items()}))
    assert all(isinstance(x, EngineError) and "WeightParityError" in str(x) for x in errors)
    run(engine.load_weights(state))
    assert len(run(all_of(engine, asked(3)))) == 3

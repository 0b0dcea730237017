"""Keys and values kept over the turns of a conversation: same answers, less work, never stale."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.conversations import Conversations
from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import load_model, load_tokenizer
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.model.sampler import Sampler
from aem_agent.types import ContextOverflowError, GenerateRequest, Response, Sampling

WORDS = "go to desk 1 take mug 2 from shelf 3 open drawer look . , stop"
Said = list[list[tuple[GenerateRequest, Response]]]


def make(folder: Path, **changes: int) -> Path:
    settings = {"init_std": 0.2, "max_positions": 512, "layers": 3} | changes
    return make_preset(PresetConfig(**settings), folder, 0, [WORDS])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(folder: Path) -> Decoder:
    model = load_model(folder)
    assert isinstance(model, Decoder)
    return model


def sampler_of(folder: Path, model: Decoder, budget: int = 1 << 30) -> tuple[Sampler, Conversations]:
    conversations = Conversations(budget)
    return Sampler(model, load_tokenizer(folder), conversations), conversations


def fed(model: Decoder) -> list[int]:
    """Prompt tokens computed per batch from now on."""
    counts: list[int] = []
    inner = model.extend

    def counted(kept, tokens, *rest):  # type: ignore[no-untyped-def]
        counts.append(len(tokens))
        return inner(kept, tokens, *rest)

    model.extend = counted  # type: ignore[method-assign]
    return counts


def talk(sampler: Sampler, rows: int = 9, turns: int = 10, window: int | None = None) -> Said:
    """Conversations whose prompts grow (or keep `window` tokens after their head), of different lengths, greedy and
    sampled; rows join late and pause."""
    rng = random.Random(1)
    heads = [tuple(rng.randrange(7, 16) for _ in range(4 + 5 * (row // 2))) for row in range(rows)]
    later: list[tuple[int, ...]] = [()] * rows
    said: Said = []
    for turn in range(turns):
        asked, places = [], []
        for row in range(rows):
            if turn < row // 3 or (turn + row) % 7 == 6:
                continue
            shown = later[row] if window is None else later[row][-window:]
            sampling = Sampling(temperature=(1.0, 0.0, 0.7)[row % 3], max_new_tokens=2 + row % 5, entropies=True)
            asked.append(GenerateRequest(heads[row] + shown, sampling, 1000 * turn + row, row))
            places.append(row)
        said.append(list(zip(asked, sampler(asked), strict=True)))
        for row, (_, response) in zip(places, said[-1], strict=True):
            later[row] += response.token_ids + tuple(rng.randrange(7, 16) for _ in range(1 + (row + turn) % 6))
    return said


def ids(said: Said) -> list[list[tuple[int, ...]]]:
    return [[response.token_ids for _, response in turn] for turn in said]


@torch.no_grad()
def assert_true_values(model: Decoder, said: Said, atol: float = 1e-5) -> None:
    for request, response in (pair for turn in said for pair in turn):
        start = len(request.prompt_token_ids)
        tokens = torch.tensor(request.prompt_token_ids + response.token_ids)
        logits = model.head(model.hidden(tokens, torch.tensor([0, len(tokens)]))[start - 1 : -1]).float()
        logp = (logits / (request.sampling.temperature or 1.0)).log_softmax(-1)
        want = logp.gather(1, tokens[start:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(response.logprobs), want, rtol=0, atol=atol)
        entropies = -(logp.exp() * logp).sum(-1)
        torch.testing.assert_close(torch.tensor(response.entropies), entropies, rtol=0, atol=atol)


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 2}, {"layers": 1, "kv_heads": 1}])
def test_values_equal_a_full_forward_and_tokens_those_without(tmp_path: Path, changes: dict[str, int]) -> None:
    model = load_model(make(tmp_path, **changes))
    assert isinstance(model, Decoder)
    plain = ids(talk(Sampler(model, load_tokenizer(tmp_path))))
    counts = fed(model)
    said = talk(sampler_of(tmp_path, model)[0])
    assert_true_values(model, said)
    assert ids(said) == plain
    prompts = sum(len(request.prompt_token_ids) for turn in said for request, _ in turn)
    assert sum(counts) < 0.3 * prompts, "most of the prompts must come from what was kept"


def test_a_later_turn_computes_what_is_new(folder: Path, model: Decoder) -> None:
    sampler, counts = sampler_of(folder, model)[0], fed(model)
    prompt = tuple(range(7, 16)) * 3
    (first,) = sampler([GenerateRequest(prompt, Sampling(max_new_tokens=4), 0, 5)])
    sampler([GenerateRequest(prompt + first.token_ids + (8, 9, 10), Sampling(max_new_tokens=4), 1, 5)])
    assert counts == [27, 4], "three new tokens, and the last one said, which was never fed"


def test_repeated_episodes_are_equal_bit_for_bit(folder: Path, model: Decoder) -> None:
    sampler = sampler_of(folder, model)[0]
    first = talk(sampler)
    assert talk(sampler_of(folder, model)[0]) == first
    assert talk(sampler) == first, "asked again from the start"


@pytest.mark.parametrize("budget", [30_000, 1])
def test_the_budget_holds_and_costs_no_correctness(folder: Path, model: Decoder, budget: int) -> None:
    plain = ids(talk(Sampler(model, load_tokenizer(folder))))
    sampler, conversations = sampler_of(folder, model, budget)
    inner, most = conversations.keep, []

    def noted(*arguments):  # type: ignore[no-untyped-def]
        inner(*arguments)
        most.append(conversations.nbytes)

    conversations.keep = noted  # type: ignore[method-assign]
    said = talk(sampler)
    assert_true_values(model, said)
    assert ids(said) == plain
    assert max(most) <= budget and conversations.nbytes == sum(c.nbytes for c in conversations._of.values())
    assert len(conversations) < 9


def test_the_longest_unused_go_first(folder: Path, model: Decoder) -> None:
    sampler, conversations = sampler_of(folder, model)
    prompt = tuple(range(7, 16))

    def ask(number: int) -> None:
        sampler([GenerateRequest(prompt, Sampling(max_new_tokens=2), 0, number)])

    ask(1)
    conversations.budget = 2 * conversations.nbytes
    for number in (2, 1, 3):
        ask(number)
    assert set(conversations._of) == {1, 3}


def test_numbers_used_twice_or_wrongly_are_harmless(folder: Path, model: Decoder) -> None:
    sampler, _ = sampler_of(folder, model)
    rng = random.Random(0)
    base = tuple(rng.randrange(7, 16) for _ in range(20))
    said: Said = []
    for turn in range(12):  # same number for rows of one batch, for longer, shorter and unrelated prompts
        prompts = [base[: rng.randint(1, 20)] + tuple(rng.choices(range(7, 16), k=rng.randint(0, 9))) for _ in range(6)]
        asked = [
            GenerateRequest(p, Sampling(max_new_tokens=3, entropies=True), 10 * turn + i, i // 2)
            for i, p in enumerate(prompts)
        ]
        said.append(list(zip(asked, sampler(asked), strict=True)))
    assert_true_values(model, said)


def test_windowed_prompts_keep_nothing_after_the_first_miss(folder: Path, model: Decoder) -> None:
    plain = ids(talk(Sampler(model, load_tokenizer(folder)), window=30))
    sampler, conversations = sampler_of(folder, model)
    said = talk(sampler, window=30)
    assert_true_values(model, said)
    assert ids(said) == plain
    empty = [c for c in conversations._of.values() if c.kv is None]
    assert len(empty) >= 3 and all(c.nbytes < 1000 for c in empty)


def test_changed_ends_are_cut_off(folder: Path, model: Decoder) -> None:
    sampler, counts = sampler_of(folder, model)[0], fed(model)
    body = tuple(range(7, 16)) * 2
    said: Said = []
    for turn in range(3):
        asked = [GenerateRequest(body * (turn + 2) + (10 + turn, 9), Sampling(max_new_tokens=3, entropies=True), 0, 1)]
        said.append(list(zip(asked, sampler(asked), strict=True)))
    assert_true_values(model, said)
    assert counts == [38, 20, 20] and len(said[2][0][0].prompt_token_ids) == 74


@pytest.mark.parametrize("kind", ["plain", "foreach", "fused", "data"])
def test_an_optimiser_step_forgets(folder: Path, model: Decoder, kind: str) -> None:
    sampler, conversations = sampler_of(folder, model)
    talk(sampler, turns=3)
    assert len(conversations) == 9
    some = list(model.blocks[1].parameters())[-1:]
    optimiser = torch.optim.AdamW(some, lr=0.01, foreach=kind == "foreach", fused=kind == "fused")
    tokens = torch.arange(7, 12)
    model.head(model.hidden(tokens, torch.tensor([0, 5]))).log_softmax(-1)[:, 8].sum().backward()  # type: ignore[no-untyped-call]
    if kind == "data":
        some[0].data.mul_(1.01)
    else:
        optimiser.step()
    said = talk(sampler, turns=1)
    assert len(conversations) == len(said[0]) < 9
    assert_true_values(model, said + talk(sampler))


def test_what_began_before_everything_was_forgotten_is_not_kept(folder: Path, model: Decoder) -> None:
    sampler, conversations = sampler_of(folder, model)
    sampler.admit([GenerateRequest((7, 8, 9), Sampling(max_new_tokens=3), 0, 1)])
    conversations.clear()
    while sampler.rows:
        sampler.draw()
    assert len(conversations) == conversations.nbytes == 0


def play(engine: TorchEngine, prompt: Sequence[int]) -> Response:
    request = GenerateRequest(tuple(prompt), Sampling(max_new_tokens=4), 0, 3)
    return asyncio.run(engine.generate(request))


def test_engines_forget_with_their_weights(folder: Path, model: Decoder) -> None:
    engine = TorchEngine(model, load_tokenizer(folder), share=True)
    kept = engine._conversations
    assert kept is not None
    forgets: list[Callable[[], object]] = [
        lambda: asyncio.run(engine.load_weights(model)),
        lambda: asyncio.run(engine.load_weights(load_model(folder).state_dict())),
        engine.forget,
        lambda: asyncio.run(engine.aclose()),
    ]
    for forget in forgets:
        play(engine, range(7, 12))
        assert len(kept) == 1 and kept.nbytes > 0
        forget()
        assert len(kept) == kept.nbytes == 0
    off = TorchEngine(model, load_tokenizer(folder), cache_bytes=0)
    play(off, range(7, 12))
    assert off._conversations is None
    off.forget()


def test_shared_weights_written_behind_the_engine_are_noticed(folder: Path, model: Decoder) -> None:
    engine = TorchEngine(model, load_tokenizer(folder), share=True)
    prompt = tuple(range(7, 16)) * 2
    prompt += (*play(engine, prompt).token_ids, 8, 9)
    with torch.no_grad():
        model.blocks[1].down.weight[33, 77] += 3  # type: ignore[operator, index, union-attr]
    found = play(engine, prompt)
    assert found == play(TorchEngine(model, load_tokenizer(folder), cache_bytes=0), prompt)


def test_too_long_continuations_are_refused(folder: Path, model: Decoder) -> None:
    sampler, _ = sampler_of(folder, model)
    prompt = tuple(range(7, 16)) * 50
    (said,) = sampler([GenerateRequest(prompt, Sampling(max_new_tokens=4), 0, 1)])
    with pytest.raises(ContextOverflowError, match="takes 512"):
        sampler([GenerateRequest(prompt + said.token_ids + prompt[:70], Sampling(max_new_tokens=4), 0, 1)])


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision_runs(folder: Path, dtype: torch.dtype) -> None:
    model = load_model(folder, dtype=dtype)
    assert isinstance(model, Decoder)
    assert_true_values(model, talk(sampler_of(folder, model)[0], turns=4), atol=0.15)

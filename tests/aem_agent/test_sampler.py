"""Batched sampling: recorded log-probs and entropies, streams, stops, distributions."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from aem_agent.model.draw import Draw, uniforms
from aem_agent.model.interface import LanguageModel, load_model, load_tokenizer
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.model.sampler import Row, Sampler
from aem_agent.types import ContextOverflowError, GenerateRequest, Response, Sampling, TokenizerLike

WORDS = "go to desk 1 take mug 2 from shelf 3 open drawer look . , stop"
PROMPTS = [[8, 9, 10], [8, 9, 10, 11, 12, 7], [9], [8, 9, 10], [12, 11, 10, 9, 8, 7, 8, 9, 10]]
Loaded = tuple[LanguageModel, TokenizerLike]


@pytest.fixture(scope="module", params=["decoder", "transformers"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("model")
    make_preset(PresetConfig(init_std=0.2, max_positions=64), folder, 0, [WORDS])
    if request.param == "decoder":
        return load_model(folder), load_tokenizer(folder)
    from aem_agent.model.hf import load_transformers_model

    raw = {"model_type": "qwen3"}
    model = load_transformers_model(folder, raw, device=torch.device("cpu"), dtype=torch.float32)
    return model, load_tokenizer(folder)


def ask(prompt: list[int], seed: int, **sampling: object) -> GenerateRequest:
    settings = {"max_new_tokens": 8, "entropies": True} | sampling
    return GenerateRequest(tuple(prompt), Sampling(**settings), seed)  # type: ignore[arg-type]


@torch.no_grad()
def rescored(model: LanguageModel, request: GenerateRequest, response: Response) -> torch.Tensor:
    """Log-probs Float[L, V] of each response token's place at the request's temperature, by a plain forward."""
    tokens = torch.tensor([*request.prompt_token_ids, *response.token_ids])
    hidden = model.hidden(tokens, torch.tensor([0, len(tokens)]))
    logits = model.head(hidden[len(request.prompt_token_ids) - 1 : -1])
    return (logits / (request.sampling.temperature or 1.0)).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_recorded_values_equal_a_forward(loaded: Loaded, temperature: float) -> None:
    model, tokenizer = loaded
    requests = [ask(PROMPTS[i % 5], i, temperature=temperature, max_new_tokens=3 + i % 6) for i in range(20)]
    lengths = set()
    for request, response in zip(requests, Sampler(model, tokenizer)(requests), strict=True):
        logp = rescored(model, request, response)
        ids = torch.tensor(response.token_ids)[:, None]
        torch.testing.assert_close(torch.tensor(response.logprobs), logp.gather(1, ids)[:, 0], rtol=0, atol=1e-5)
        entropies = -(logp.exp() * logp).sum(-1)
        torch.testing.assert_close(torch.tensor(response.entropies), entropies, rtol=0, atol=1e-5)
        if temperature == 0:
            assert ids[:, 0].tolist() == logp.argmax(-1).tolist()
        lengths.add(len(response.token_ids))
    assert len(lengths) > 3, "rows must finish at different times for this test to mean something"


def test_a_row_does_not_depend_on_the_rest_of_the_batch(loaded: Loaded) -> None:
    sampler = Sampler(*loaded)
    requests = [ask(PROMPTS[i % 5], 1000 + i, max_new_tokens=2 + i % 7) for i in range(25)]
    together = sampler(requests)
    for request, response in zip(requests, together, strict=True):
        (alone,) = sampler([request])
        assert alone.token_ids == response.token_ids and alone.finish_reason == response.finish_reason
        np.testing.assert_allclose(alone.logprobs or (), response.logprobs or (), atol=1e-5)
    assert [r.token_ids for r in sampler(requests[::-1])] == [r.token_ids for r in together[::-1]]


def test_other_seeds_draw_other_tokens(loaded: Loaded) -> None:
    responses = Sampler(*loaded)([ask(PROMPTS[0], seed) for seed in range(40)])
    assert len({r.token_ids for r in responses}) > 20


def test_stops(loaded: Loaded) -> None:
    model, tokenizer = loaded
    sampler = Sampler(model, tokenizer)
    base, free = next(
        (r, f)
        for seed in range(50)
        for r in [ask(PROMPTS[1], seed, max_new_tokens=12)]
        for f in sampler([r])
        if len(f.token_ids) == 12
    )
    middle = free.token_ids[len(free.token_ids) // 2]
    first = free.token_ids.index(middle) + 1
    (by_id,) = sampler([replace(base, sampling=replace(base.sampling, stop_token_ids=(middle,)))])
    assert by_id.token_ids == free.token_ids[:first] and by_id.finish_reason == "stop"
    word = tokenizer.decode([middle])
    (by_text,) = sampler([replace(base, sampling=replace(base.sampling, stop=("never seen", word)))])
    assert word in by_text.text and len(by_text.token_ids) <= first and by_text.finish_reason == "stop"
    (cut,) = sampler([replace(base, sampling=replace(base.sampling, max_new_tokens=1))])
    assert cut.token_ids == free.token_ids[:1] and cut.finish_reason == "length"


def test_stop_string_over_several_tokens(loaded: Loaded) -> None:
    model, tokenizer = loaded
    for seed in range(20):
        base = ask(PROMPTS[1], seed, max_new_tokens=12)
        (free,) = Sampler(model, tokenizer)([base])
        two = tokenizer.decode(free.token_ids[2:4])
        if len(free.token_ids) < 6 or " " not in two:
            continue
        (found,) = Sampler(model, tokenizer)([replace(base, sampling=replace(base.sampling, stop=(two,)))])
        assert found.text.endswith(two) and found.finish_reason == "stop" and len(found.token_ids) <= 4
        return
    pytest.fail("no response was long enough")


class Counted:
    """A tokenizer that counts the ids it decodes."""

    def __init__(self, inner: TokenizerLike, eos: int | None = None) -> None:
        self.inner, self.decoded = inner, 0
        self.eos_token_id = inner.eos_token_id if eos is None else eos

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += len(ids)
        return self.inner.decode(ids)


class Pieces:
    """A tokenizer of UTF-8 bytes in pieces, some of which say nothing, with spaces between words at its whim."""

    eos_token_id = -1
    pieces = (b"a", b"b", b" ", b"", "é".encode(), b"\xf0\x9f", b"\x98\x80", b"\xc3", b"\xa9", b"ab", b"</", b"t>", b"")

    def encode(self, text: str) -> list[int]:
        return [0]

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.pieces[i % len(self.pieces)] for i in ids).decode("utf-8", "replace").lstrip(" ")


STOPS = [
    "b ",
    "é",
    "\N{GRINNING FACE}",
    "a é",
    "ab ab",
    "</t>",
    " </t>",
    "é\N{GRINNING FACE}",
    "bbb",
    "a  b",
    "t>ab</t> ",
    "\N{REPLACEMENT CHARACTER}a",
]


def test_stop_strings_are_found_as_in_the_whole_text() -> None:
    tokenizer, rng, found = Pieces(), random.Random(0), Counter[bool]()
    sampler = Sampler(None, tokenizer)  # type: ignore[arg-type]
    for number in range(1500):
        stop = tuple(rng.sample(STOPS, rng.randint(1, 2)))
        row = Row(GenerateRequest((0,), Sampling(stop=stop), number), None, -1, 0)
        pieces = rng.choices(range(len(tokenizer.pieces)), k=rng.randint(2, 6))
        for _ in range(60):
            row.ids.append(rng.choice(pieces))
            want = any(s in tokenizer.decode(row.ids) for s in stop)
            assert sampler._stopped(row) == want, (stop, tokenizer.decode(row.ids))
            if want:
                break
        found[want] += 1
    assert min(found.values()) > 100


@pytest.mark.parametrize("stop", ["zz ", "é", "zz"])
def test_looking_for_a_stop_string_costs_the_same_at_every_token(loaded: Loaded, stop: str) -> None:
    model, inner = loaded
    tokenizer = Counted(inner, eos=-1)
    (said,) = Sampler(model, tokenizer)([ask(PROMPTS[2], 1, stop=(stop,), max_new_tokens=63)])
    assert len(said.token_ids) == 63
    assert tokenizer.decoded < 63 * 16


def test_end_token_always_stops_and_is_kept(loaded: Loaded) -> None:
    model, tokenizer = loaded
    responses = Sampler(model, tokenizer)([ask(PROMPTS[0], seed, max_new_tokens=30) for seed in range(60)])
    ended = [r for r in responses if tokenizer.eos_token_id in r.token_ids]
    assert ended
    for response in ended:
        assert response.token_ids.index(tokenizer.eos_token_id) == len(response.token_ids) - 1
        assert response.finish_reason == "stop" and "<eos>" not in response.text


def test_too_long_is_refused(loaded: Loaded) -> None:
    with pytest.raises(ContextOverflowError):
        Sampler(*loaded)([ask([8] * 60, 0)])


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, -torch.inf, 2.0]]).expand(40_000, 5)
    p = logits[0].softmax(-1)
    uniform = torch.from_numpy(uniforms(range(40_000), 3, 1))[:, 0]
    tokens, logp, entropies = Draw([Sampling(entropies=True)] * 40_000, torch.device("cpu"))(logits, uniform)
    counts = Counter(tokens.tolist())
    assert counts[3] == 0
    for i in (0, 1, 2, 4):
        share = float(p[i])
        assert abs(counts[i] / 40_000 - share) < 4 * (share * (1 - share) / 40_000) ** 0.5
    torch.testing.assert_close(logp, p.log()[tokens])
    assert entropies is not None
    torch.testing.assert_close(entropies[0], -(p[p > 0] * p[p > 0].log()).sum())


def test_top_p_keeps_the_crossing_token_and_reports_the_whole_distribution() -> None:
    p = torch.tensor([0.15, 0.5, 0.05, 0.3])
    settings = [Sampling(top_p=0.6), Sampling(top_p=0.4), Sampling()]
    rows = [settings[i % 3] for i in range(3000)]
    uniform = torch.from_numpy(uniforms(range(3000), 0, 1))[:, 0]
    tokens, logp, _ = Draw(rows, torch.device("cpu"))(p.log().expand(3000, 4), uniform)
    assert set(tokens[0::3].tolist()) == {1, 3}
    assert set(tokens[1::3].tolist()) == {1}
    assert set(tokens[2::3].tolist()) == {0, 1, 2, 3}
    torch.testing.assert_close(logp, p.log()[tokens])


def test_mixed_temperatures_in_one_batch() -> None:
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    rows = [Sampling(temperature=t) for t in (0.0, 1.0, 0.5, 0.0, 2.0, 1.0)]
    tokens, logp, _ = Draw(rows, torch.device("cpu"))(logits, torch.full((6,), 0.5, dtype=torch.float64))
    for i, row in enumerate(rows):
        want = (logits[i] / (row.temperature or 1)).log_softmax(-1)
        torch.testing.assert_close(logp[i], want[tokens[i]])
        if row.temperature == 0:
            assert tokens[i] == logits[i].argmax()
        else:
            assert tokens[i] == int((want.exp().double().cumsum(0) <= 0.5).sum())


def test_uniforms_are_independent_streams_and_stable() -> None:
    u = uniforms(range(200), 0, 100)
    assert ((u > 0) & (u < 1)).all()
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.std() - 12**-0.5) < 0.01
    assert abs(np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.02
    assert (uniforms([7], 40, 5) == uniforms([7], 0, 45)[:, 40:]).all()
    assert len({float(x) for x in uniforms([0, -1, 2**64 + 5, 2**53 - 1], 0, 1).ravel()}) == 4
    assert uniforms([12345], 0, 2)[0].tolist() == [0.7159948368626718, 0.8588676732643581]

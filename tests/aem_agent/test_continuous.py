"""A batch that requests join and leave: log-probs equal a full forward, draws depend on seed and token number only."""

import json
import random

import pytest
import torch

from aem_agent.model.conversations import Conversations
from aem_agent.model.draw import AHEAD, Streams, uniforms
from aem_agent.model.hf import load_transformers_model
from aem_agent.model.interface import LanguageModel, load_model
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.model.sampler import Row, Sampler
from aem_agent.types import ContextOverflowError, GenerateRequest, Response, Sampling

WORDS = "go to desk 1 take mug 2 from shelf 3 open drawer look . , stop"


class Endless:
    """A tokenizer without an end: answers are as long as they may be."""

    eos_token_id = -1

    def encode(self, text: str) -> list[int]:
        return [7]

    def decode(self, ids: object) -> str:
        return ""


@pytest.fixture(scope="module", params=["qwen3", "grouped", "transformers", "sliding"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("model")
    kv_heads = 2 if request.param == "grouped" else 4
    make_preset(PresetConfig(init_std=0.2, max_positions=128, layers=2, kv_heads=kv_heads), folder, 0, [WORDS])
    if request.param in ("qwen3", "grouped"):
        return load_model(folder)
    if request.param == "sliding":
        path = folder / "config.json"
        window = {"use_sliding_window": True, "sliding_window": 100, "layer_types": ["sliding_attention"] * 2}
        path.write_text(json.dumps(json.loads(path.read_text()) | window))
    return load_transformers_model(folder, {"model_type": "qwen3"}, device=torch.device("cpu"), dtype=torch.float32)


def ask(number: int, rng: random.Random, conversation: int | None = None) -> GenerateRequest:
    prompt = tuple(rng.randrange(7, 16) for _ in range(rng.randint(1, 30)))
    sampling = Sampling((1.0, 0.7, 0.0)[number % 3], (1.0, 0.9)[number % 2], rng.randint(1, 40), entropies=True)
    return GenerateRequest(prompt, sampling, number, conversation)


@torch.no_grad()
def assert_true_values(model: LanguageModel, request: GenerateRequest, said: Response, start: int = 0) -> None:
    first, ids = len(request.prompt_token_ids), torch.tensor([*request.prompt_token_ids, *said.token_ids])
    logits = model.head(model.hidden(ids, torch.tensor([0, len(ids)]))[first - 1 : -1])
    logp = (logits / (request.sampling.temperature or 1.0)).log_softmax(-1)
    want = logp.gather(1, ids[first:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(said.logprobs)[start:], want[start:], rtol=0, atol=1e-5)
    entropies = -(logp.exp() * logp).sum(-1)
    torch.testing.assert_close(torch.tensor(said.entropies)[start:], entropies[start:], rtol=0, atol=1e-5)


def churn(sampler: Sampler, requests: list[GenerateRequest], most: int = 6) -> dict[int, Response]:
    """Rows come one, two or three at a time, at most so many at once, as others finish; some leave early."""
    rng, waiting, said = random.Random(2), list(requests), {}
    owner: dict[Row, GenerateRequest] = {}
    while waiting or sampler.rows:
        count = min(rng.randint(0 if sampler.rows else 1, 3), most - len(sampler.rows), len(waiting))
        if count and sampler.joins:
            asked, waiting = waiting[:count], waiting[count:]
            owner |= zip(sampler.admit(asked), asked, strict=True)
        for row in sampler.draw():
            said[owner[row].seed] = sampler.response(row)
        if sampler.rows and rng.random() < 0.05:
            sampler.leave([rng.choice(sampler.rows)])
    return said


def test_rows_that_joined_late_equal_a_forward_and_draw_as_they_would_alone(model: LanguageModel) -> None:
    rng = random.Random(0)
    requests = [ask(i, rng) for i in range(30)]
    sampler = Sampler(model, Endless())
    said = churn(sampler, requests)
    assert 15 < len(said) < 30, "some rows left early"
    for request in requests:
        if request.seed in said:
            assert_true_values(model, request, said[request.seed])
            assert len(said[request.seed].token_ids) == request.sampling.max_new_tokens
            (alone,) = sampler([request])
            assert alone.token_ids == said[request.seed].token_ids


def test_whether_a_batch_can_be_joined(model: LanguageModel) -> None:
    sampler = Sampler(model, Endless())
    assert sampler.joins
    sampler.admit([ask(0, random.Random(1))])
    plain = not hasattr(model, "lm") or model.lm.config.layer_types[0] == "full_attention"
    assert sampler.joins is plain


def test_conversations_in_a_batch_that_is_joined(model: LanguageModel) -> None:
    """Prompts extend what was said, while others run; a number in use is not taken up."""
    rng, conversations = random.Random(3), Conversations(1 << 30)
    sampler = Sampler(model, Endless(), conversations)
    texts: list[tuple[int, ...]] = [tuple(rng.randrange(7, 16) for _ in range(12))] * 5
    for turn in range(3):
        requests = [
            GenerateRequest(
                texts[i % 5] + (7 + i % 5,), Sampling(max_new_tokens=2 + i % 4, entropies=True), 10 * turn + i, i % 5
            )
            for i in range(10)
        ]
        said = churn(sampler, requests, most=4)
        for request in requests:
            if request.seed in said:
                assert_true_values(model, request, said[request.seed])
                texts[request.conversation or 0] = request.prompt_token_ids + said[request.seed].token_ids


@pytest.mark.parametrize("model", ["qwen3", "grouped"], indirect=True)
def test_a_conversation_in_use_is_not_taken_up_by_another_row(model: LanguageModel) -> None:
    sampler, rng = Sampler(model, Endless(), Conversations(1 << 30)), random.Random(4)

    def ask(prompt: tuple[int, ...], new: int) -> GenerateRequest:
        return GenerateRequest(prompt, Sampling(max_new_tokens=new, entropies=True), 1, 7)

    body = tuple(rng.randrange(7, 16) for _ in range(40))
    sampler([ask(body, 2)])
    other = body[:20] + tuple(rng.randrange(7, 16) for _ in range(30))
    (short,) = sampler.admit([ask(other, 3)])
    (long,) = sampler.admit([ask((*body, 8), 30)])
    while short in sampler.rows:
        sampler.draw()
    last = ask((*other, *short.ids, 9), 4)
    (row,) = sampler.admit([last])
    while sampler.rows:
        sampler.draw()
    assert_true_values(model, last, sampler.response(row))
    assert_true_values(model, long.request, sampler.response(long))


def test_new_weights_between_two_tokens(model: LanguageModel) -> None:
    rng = random.Random(5)
    requests = [ask(i, rng) for i in range(0, 30, 3)]
    sampler = Sampler(model, Endless())
    owner = dict(zip(sampler.admit(requests, 4), requests, strict=True))
    early = [sampler.response(row) for _ in range(3) for row in sampler.draw()]
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    try:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
        sampler.recompute(5)
        late = sampler.admit([ask(40, rng)], 5)
        owner[late[0]] = ask(40, random.Random(5))
        late_request = late[0].request
        while sampler.rows:
            for row in sampler.draw():
                said = sampler.response(row)
                request = late_request if row is late[0] else owner[row]
                assert said.policy_versions == (((0, 5),) if row is late[0] else ((0, 4), (3, 5)))
                assert_true_values(model, request, said, 0 if row is late[0] else 3)
    finally:
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(kept[name])
    assert all(said.policy_versions == ((0, 4),) for said in early)


def test_what_does_not_fit_is_refused_and_the_batch_goes_on(model: LanguageModel) -> None:
    sampler = Sampler(model, Endless())
    request = GenerateRequest((8,) * 20, Sampling(max_new_tokens=4, entropies=True), 1)
    (row,) = sampler.admit([request])
    with pytest.raises(ContextOverflowError, match="takes 128"):
        sampler.admit([GenerateRequest((8,) * 127, Sampling(max_new_tokens=4), 0)])
    while sampler.rows:
        sampler.draw()
    assert_true_values(model, request, sampler.response(row))


def test_a_long_prompt_and_a_long_answer_fit_beside_each_other(model: LanguageModel) -> None:
    requests = [
        GenerateRequest((8,) * 120, Sampling(max_new_tokens=4, entropies=True), 1),
        GenerateRequest((9,), Sampling(max_new_tokens=120, entropies=True), 2),
    ]
    for request, said in zip(requests, Sampler(model, Endless())(requests), strict=True):
        assert_true_values(model, request, said)


def test_streams_go_on_where_each_row_is() -> None:
    streams = Streams([5, 6, 7], [0, 30, 2], torch.device("cpu"))
    first = [streams.take().tolist() for _ in range(3)]
    streams.keep(torch.tensor([2, 0]))
    assert streams.left == AHEAD - 3
    for k, (a, b, c) in enumerate(first):
        assert [a, b, c] == [uniforms([5], k, 1)[0, 0], uniforms([6], 30 + k, 1)[0, 0], uniforms([7], 2 + k, 1)[0, 0]]
    assert streams.take().tolist() == [uniforms([7], 5, 1)[0, 0], uniforms([5], 3, 1)[0, 0]]

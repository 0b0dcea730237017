"""Our environments inside the real TRL: `EnvRollout` as its `rollout_func`."""

import importlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import quick, run
from torch import Tensor

import aem_envs
from aem_agent.agent_config import AgentConfig
from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.interface import load_tokenizer
from aem_agent.types import Episode, GenerateRequest, Response
from trainer.adapters import trl_env
from trainer.adapters.trl_env import EnvRollout, EnvRolloutError, _fields, env_reward
from trainer.config import AemConfig

LIMIT = 6
"""Turns of an episode."""
SHORT = [f"rooms{n + 1}-start{n}-{colour}" for n in (2, 3, 4) for colour in ("red", "blue")]
"""Tasks of two right actions."""


@pytest.fixture(scope="module")
def trl() -> Any:
    pytest.importorskip("trl")
    torch.set_num_threads(1)
    return importlib.import_module("trl_runs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that has cloned an expert of the toy, with the whole history in its prompts."""
    path = tmp_path_factory.mktemp("trl-env") / "start"
    sizes = ("warmstart.steps=120", "warmstart.games=80", "warmstart.tokens_per_step=1500", "steps=0")
    run(quick("model.prompt=plain-full", *sizes), path)
    return path / "best"


class Noted(EnvRollout):
    """Keeps what TRL asked for and what it was told, batch by batch."""

    def __call__(self, prompts: Any, trainer: Any) -> dict[str, Any]:
        self.tasks = [*getattr(self, "tasks", []), list(prompts)]
        told = super().__call__(prompts, trainer)
        self.told = [*getattr(self, "told", []), told]
        return told


def noted(folder: Path, **settings: Any) -> Noted:
    return Noted("aem/Toy-v0", agent=AgentConfig.load(folder), **{"max_steps": LIMIT, **settings})


def made(
    trl: Any, kind: Any, folder: Path, out: Path, rollout: Noted, *, options: dict[str, Any] | None = None, **more: Any
) -> Any:
    """A trainer of two steps on two groups of four episodes each."""
    sizes = {"per_device_train_batch_size": 8, "steps_per_generation": 1, "max_steps": 2, "learning_rate": 1e-3}
    short = rollout.dataset("train").filter(lambda row: row["prompt"] in SHORT)
    settings = {"train_dataset": short, "reward_funcs": env_reward, **more}
    options = {**sizes, "temperature": 0.7, **(options or {})}
    return trl.made(kind, folder, out, options=options, rollout_func=rollout, **settings)


def trained(trl: Any, kind: Any, folder: Path, out: Path, **more: Any) -> Any:
    rollout = noted(folder)
    try:
        trainer = made(trl, kind, folder, out, rollout, **more)
        trainer.train()
    finally:
        rollout.close()
    return trainer


def shaped(completions: list[Any], env_return: list[float], env_invalid: list[int], **_: Any) -> list[float]:
    """Differs within nearly every group."""
    return [r - 0.1 * n for r, n in zip(env_return, env_invalid)]


class Taken:
    """Takes the rows of TRL's batches apart: against the engine's requests, and the environment played again."""

    def __init__(self, asked: Counter[tuple[tuple[int, ...], Response]], tokenizer: Any) -> None:
        self.asked = asked
        self.tokenizer = tokenizer
        self.env = aem_envs.make_env("aem/Toy-v0", max_steps=LIMIT)
        self.turns = 0

    def apart(self, batch: dict[str, Tensor], row: int, task: str) -> float:
        """The return of the episode in this row."""
        prompt = unpadded(batch["prompt_ids"][row], batch["prompt_mask"][row])
        said, mask = (
            unpadded(batch[name][row], batch["completion_mask"][row]) for name in ("completion_ids", "tool_mask")
        )
        observation, _ = self.env.reset(options={"task_id": task})
        total, place, over = 0.0, 0, False
        while not over:
            length = (*mask[place:], 0).index(0)
            ids = said[place : place + length]
            (key,) = (k for k in self.asked if k[0] == (*prompt, *said[:place]) and k[1].token_ids == ids)
            self.asked[key] -= 1
            self.turns += 1
            torch.testing.assert_close(
                batch["logprobs"][row, place : place + length].float(), torch.tensor(key[1].logprobs), rtol=0, atol=2e-5
            )
            place += length
            observation, reward, won, out, _ = self.env.step(key[1].text.strip())
            total, over = total + reward, won or out
            line_end = "" if key[1].text.endswith("\n") else "\n"
            seen = () if over else (*self.encode(f"{line_end}{observation}\n"), *self.encode("> "))
            seen = (self.tokenizer.eos_token_id,) if won else seen
            assert said[place : place + len(seen)] == seen
            assert mask[place : place + len(seen)] == (0,) * len(seen)
            place += len(seen)
        assert place == len(said)
        return total

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text)
        return ids


def unpadded(values: Tensor, mask: Tensor) -> tuple[int, ...]:
    return tuple(values[mask.bool()].tolist())


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["whole model", "LoRA"])
def test_the_ids_trained_are_those_sampled(
    trl: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: bool
) -> None:
    """Each row is the prompts and responses that the engine had, and between them what the environment, played again,
    answers; advantages are of its rewards; log-probs those of TRL's own forward pass."""
    asked: Counter[tuple[tuple[int, ...], Response]] = Counter()
    generate = TorchEngine.generate

    async def noted(self: TorchEngine, request: GenerateRequest) -> Response:
        response = await generate(self, request)
        asked[request.prompt_token_ids, response] += 1
        return response

    monkeypatch.setattr(TorchEngine, "generate", noted)
    more: dict[str, Any] = {}
    if lora:
        config = pytest.importorskip("peft").LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"])
        more = {"peft_config": config, "options": {"learning_rate": 0.1}}  # far enough for the second batch to tell
    trainer = trained(trl, trl.Plain, folder, tmp_path, **more)
    taken = Taken(asked, load_tokenizer(folder))
    returns = [
        [taken.apart(batch, row, task) for row, task in enumerate(tasks)]
        for batch, tasks in zip(trainer.batches, trainer.rollout_func.tasks, strict=True)
    ]
    assert len(returns) == 2 and not any(asked.values())
    assert sum(map(sum, returns)) > 0 and taken.turns > 32, "too little happens for this to say anything"
    for batch, found, logged in zip(trainer.batches, returns, trainer.state.log_history):
        groups = torch.tensor(found, dtype=torch.float64).view(2, 4)
        wanted = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
        torch.testing.assert_close(batch["advantages"].double(), wanted.flatten(), rtol=1e-4, atol=1e-4)
        assert logged["rewards/env_reward/mean"] == pytest.approx(sum(found) / 8) == logged["env/won"]
        assert logged["env/cut"] == 0


@pytest.mark.slow
def test_lambda_zero_is_plain_trl_and_one_gives_each_turn_its_alpha(trl: Any, folder: Path, tmp_path: Path) -> None:
    kinds = ((trl.Plain, {}), (trl.Modulated, {"aem": AemConfig(lam=0.0)}), (trl.Modulated, {"aem": AemConfig()}))
    plain, zero, one = (trained(trl, kind, folder, tmp_path, reward_funcs=shaped, **more) for kind, more in kinds)
    weights = [dict(trainer.model.state_dict()) for trainer in (plain, zero, one)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    before, after = plain.batches[0], one.batches[0]
    assert torch.equal(before["completion_ids"], after["completion_ids"])
    mask = (after["completion_mask"] * after["tool_mask"]).bool()
    alpha = after["advantages"] / before["advantages"].unsqueeze(1)
    row = next(row for row in range(8) if before["advantages"][row] != 0 and (~mask[row]).any())
    assert len({round(a, 5) for a in alpha[row][mask[row]].tolist()}) > 1
    assert (alpha[row][~mask[row]] == 1).all()
    assert "aem/alpha_q05" in one.state.log_history[0]


@pytest.mark.slow
def test_runs_repeat_and_every_batch_is_another(trl: Any, folder: Path, tmp_path: Path) -> None:
    first, again = (trained(trl, trl.Plain, folder, tmp_path).batches for _ in range(2))
    assert all(torch.equal(a["completion_ids"], b["completion_ids"]) for a, b in zip(first, again, strict=True))


@pytest.mark.slow
def test_each_trainer_samples_from_its_own_model(trl: Any, folder: Path, tmp_path: Path) -> None:
    """One `EnvRollout`, three trainers: what was sampled has the log-probs of the model that is trained."""
    rollout = noted(folder)
    first, second, third = (
        made(trl, trl.Plain, folder, tmp_path, rollout, options={"max_steps": 1, **more})
        for more in ({}, {}, {"top_k": 5})
    )
    with torch.no_grad():
        for parameter in second.model.parameters():
            parameter.mul_(0.5)
    for trainer in (first, second):
        trainer.train()
        (batch,), told = trainer.batches, rollout.told[-1]
        for row, (mask, logprobs) in enumerate(zip(told["env_mask"], told["logprobs"], strict=True)):
            at = torch.tensor(mask).bool()
            found = batch["logprobs"][row][: len(mask)][at].float()
            torch.testing.assert_close(found, torch.tensor(logprobs)[at], rtol=0, atol=2e-5)
    assert first.batches[0]["completion_ids"].tolist() != second.batches[0]["completion_ids"].tolist()
    with pytest.raises(EnvRolloutError, match="top_k"):
        third.train()
    rollout.close()
    assert rollout._policy is None


@pytest.mark.slow
def test_what_a_limit_ended_is_left_out_if_asked(
    trl: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL looks at the last id. Here every response ends in the end token."""
    episodes: list[Episode] = []
    generate = TorchEngine.generate

    def kept(played: list[Episode], *ends: Any) -> dict[str, Any]:
        episodes.extend(played)
        return _fields(played, *ends)

    async def ended(self: TorchEngine, request: GenerateRequest) -> Response:
        response = await generate(self, request)
        ids, logprobs = (*response.token_ids, self.tokenizer.eos_token_id), (*(response.logprobs or ()), -1.0)
        return replace(response, token_ids=ids, logprobs=logprobs, entropies=None)

    monkeypatch.setattr(trl_env, "_fields", kept)
    monkeypatch.setattr(TorchEngine, "generate", ended)
    rollout = noted(folder, max_steps=2)
    options = {"max_steps": 1, "per_device_train_batch_size": 16, "mask_truncated_completions": True}
    trainer = made(trl, trl.Plain, folder, tmp_path, rollout, options=options)
    trainer.train()
    rollout.close()
    assert {e.terminated for e in episodes} == {True, False}, "of one kind only: this says nothing"
    (batch,) = trainer.batches
    assert batch["completion_mask"].any(1).tolist() == [e.terminated for e in episodes]
    share = sum(e.truncated for e in episodes) / len(episodes)
    assert trainer.state.log_history[0]["completions/clipped_ratio"] == pytest.approx(share)

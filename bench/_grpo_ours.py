"""One GRPO step of ours over a small Qwen3: what `grpo_step.py` and `aem_step.py` measure.

Two layers of width 128 over 2,048 words, tied head, float32: 656,128 parameters. 16 groups of 8 prompts of 256 words,
16 new ones each, as nobody says the end token; the reward is the share of odd tokens.
"""

import asyncio
import random
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.interface import load_model, load_tokenizer
from aem_agent.model.presets import make_preset, preset
from aem_agent.types import Episode, GenerateRequest, RolloutGroup, Sampling, TaskRef, Turn
from trainer.advantages import estimators
from trainer.aem import modulate
from trainer.batch import build
from trainer.config import AemConfig, AlgorithmConfig, MetricsConfig, OptimiserConfig, RolloutConfig, TrainConfig
from trainer.learner import Learner, make_optimiser
from trainer.metrics import advantage_metrics, require_finite, rollout_metrics
from trainer.policy import Policy
from trainer.sampled import check_sampled
from trainer.scoring import Scores, score, signals, uncertainty
from trainer.update import make_plan, update

GROUPS, SIZE, PROMPT, NEW, VOCABULARY = 16, 8, 256, 16, 2048
LR = 1e-4
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "ffn": 384,
    "tied": True,
    "max_positions": 512,
    "init_std": 0.2,
}


def words() -> list[str]:
    """More words than the vocabulary holds."""
    return ["".join(letters) for letters in product("abcdefghijklmn", repeat=3)][:VOCABULARY]


def model_folder(out: Path) -> Path:
    """Makes the model in `out`, the same bytes wherever it is made."""
    folder = make_preset(preset("tiny", **SHAPE), out / "model", 0, [" ".join(words())] * 2)
    assert len(load_tokenizer(folder).encode(" ".join(prompt(random.Random(0))))) == PROMPT
    return folder


def prompt(rng: random.Random) -> list[str]:
    """Words of one prompt; the least common ones are not in the vocabulary."""
    return rng.choices(words()[:2000], k=PROMPT)


def odd_share(ids: Any) -> float:
    """The reward."""
    return sum(token % 2 for token in ids) / len(ids)


class Endless:
    """A tokenizer without an end token."""

    eos_token_id = -1

    def __init__(self, tokenizer: Any) -> None:
        self.encode, self.decode = tokenizer.encode, tokenizer.decode


@dataclass
class OurStep:
    """A model, its engine and its optimiser, and one step after the other.

    aem: entropies and α. scoring: log-probs, and with `aem` entropies, come from a forward pass instead of from the
    sampler. distinct: all prompts differ, so that nothing is computed once for a group. updates: optimiser steps.
    """

    folder: Path
    aem: bool = True
    scoring: bool = False
    distinct: bool = False
    updates: int = 2
    steps: int = 0

    @cached_property
    def config(self) -> TrainConfig:
        per_step = GROUPS * SIZE // self.updates
        return TrainConfig(
            rollout=RolloutConfig(tasks=GROUPS, group_size=SIZE, reward_scale=1.0),
            algorithm=AlgorithmConfig(skip_zero=False, invalid_penalty=0.0),
            aem=AemConfig(enabled=self.aem),
            optimiser=OptimiserConfig(lr=LR, minibatch_responses=per_step, micro_tokens=per_step * (PROMPT + NEW)),
            metrics=MetricsConfig(drift_responses=0),
        )

    @cached_property
    def learner(self) -> Learner:
        model: Any = load_model(self.folder)
        return Learner(model, Policy(model), make_optimiser(model.parameters(), LR, self.config.optimiser))

    @cached_property
    def engine(self) -> TorchEngine:
        tokenizer = Endless(load_tokenizer(self.folder))
        return TorchEngine(self.learner.model, tokenizer, share=True, cache_bytes=0)

    def __call__(self) -> None:
        """One step, as `trainer.loop.rl_step` goes."""
        config, learner = self.config, self.learner
        groups = asyncio.run(self._rollout())
        batch, outcomes = build(groups, **config.rollout.batch_options)
        check_sampled(batch, learner.model.vocab_size)
        if self.scoring:
            batch = replace(batch, old_logprobs=None, entropies=None)
        if batch.old_logprobs is not None and not self.aem:  # who needs no entropies has nothing to compute
            scores = Scores(batch.old_logprobs, torch.zeros_like(batch.old_logprobs))
        else:
            scores = score(learner.policy, batch, temperature=1.0, max_tokens=config.optimiser.micro_tokens)
        metrics = rollout_metrics(batch, outcomes, scores.entropies, scores.logprobs)
        require_finite(metrics, "a step")
        credit = estimators.get("grpo")(signals(batch, outcomes, scores), **config.algorithm.estimator_options)
        advantages = credit.values
        if self.aem:
            found = uncertainty(batch, scores, config.aem.proxy)
            modulation = modulate(advantages, found, batch.group_index, **config.aem.modulate_options)
            advantages = modulation.advantages
            metrics |= modulation.stats
        plan = make_plan(batch, advantages, None, outcomes.terminated, config.algorithm)
        generator = torch.Generator().manual_seed(self.steps)
        metrics |= update(learner, batch, scores, plan, config, generator)
        asyncio.run(self.engine.load_weights(learner.model))
        metrics |= advantage_metrics(advantages, plan.keep, plan.filtered)
        self.steps += 1
        self.metrics = {name: float(value) for name, value in metrics.items()}

    async def _rollout(self) -> list[RolloutGroup]:
        rng = random.Random(self.steps)
        tokenizer, prompts = self.engine.tokenizer, []
        for _ in range(GROUPS):
            shared = prompt(rng)
            prompts += [tokenizer.encode(" ".join(prompt(rng) if self.distinct else shared)) for _ in range(SIZE)]
        sampling = Sampling(max_new_tokens=NEW, entropies=self.aem and not self.scoring)
        requests = [
            GenerateRequest(tuple(ids), sampling, 10_000 * self.steps + number) for number, ids in enumerate(prompts)
        ]
        responses = await asyncio.gather(*map(self.engine.generate, requests))
        assert all(len(said.token_ids) == NEW for said in responses)
        episodes = []
        for number, (request, said) in enumerate(zip(requests, responses, strict=True)):
            reward = odd_share(said.token_ids)
            turn = Turn("", said, said.text, prompt_token_ids=request.prompt_token_ids, reward=reward)
            task = str(number // SIZE)
            episodes.append(
                Episode(
                    "bench", task, "", "train", number % SIZE, request.seed, (turn,), terminated=True, return_=reward
                )
            )
        return [
            RolloutGroup(TaskRef("bench", str(g), "train"), tuple(episodes[g * SIZE : (g + 1) * SIZE]))
            for g in range(GROUPS)
        ]

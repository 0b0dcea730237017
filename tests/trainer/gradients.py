"""One optimiser step through the trainer's own code, with the gradients that its optimisers were given."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from helpers import quick
from torch import Tensor, nn

from aem_agent.model.interface import LanguageModel
from trainer import aem
from trainer.advantages import estimators, penalise_invalid, uses_critic
from trainer.batch import Batch, Outcomes
from trainer.config import TrainConfig
from trainer.learner import Learner
from trainer.policy import Policy
from trainer.scoring import Critic, Scores, score, signals, uncertainty
from trainer.update import Plan, make_plan, update

ONE_STEP = (
    "optimiser.minibatch_responses=100000",
    "optimiser.grad_clip=1e9",
    "rollout.temperature=0.8",
    "algorithm.std_floor=0.5",
    "algorithm.clip_low=0.05",
    "algorithm.clip_high=0.1",
    "aem.range_guard=0",
)


class Recorder(torch.optim.Optimizer):
    """Moves nothing, and keeps the gradients of its one step."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__([p for p in parameters if p.requires_grad], {})
        self.seen: list[list[Tensor]] = []

    def step(self, closure: Any = None) -> Any:
        found = [p for group in self.param_groups for p in group["params"]]
        self.seen.append([torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in found])


class Step(NamedTuple):
    """What one optimiser step was."""

    gradients: list[Tensor]
    critic: list[Tensor]
    metrics: dict[str, Tensor]


def one_step(*settings: str) -> TrainConfig:
    return quick(*ONE_STEP, *settings)


def make_learner(model: LanguageModel, config: TrainConfig) -> Learner:
    optimiser = Recorder(model.parameters())
    if not uses_critic(estimators.get(config.algorithm.estimator)):
        return Learner(model, Policy(model), optimiser)
    critic = Critic(model.hidden_size, torch.Generator().manual_seed(3))
    nn.init.normal_(critic.outer.weight, generator=torch.Generator().manual_seed(4))
    return Learner(model, Policy(model), optimiser, critic, Recorder(critic.parameters()))


def scored(learner: Learner, batch: Batch, config: TrainConfig, prompts: Iterable[tuple[int, ...]] = ()) -> Scores:
    return score(
        learner.policy,
        batch,
        temperature=config.rollout.temperature,
        critic=learner.critic,
        level=config.algorithm.gae_level,
        final_prompts=list(prompts),
    )


def moved(scores: Scores) -> Scores:
    """As if other weights had sampled, so that ratios differ from 1, some by more than the clip allows; with a
    reference that differs too."""
    generator = torch.Generator().manual_seed(6)
    noise = [0.1 * torch.randn(scores.logprobs.shape, generator=generator) for _ in range(2)]
    return replace(
        scores,
        logprobs=scores.logprobs + noise[0],
        reference=scores.logprobs + noise[1],
        parity_limit=float("inf"),
        values=None if scores.values is None else scores.values + noise[0][: len(scores.values)],
    )


def planned(batch: Batch, outcomes: Outcomes, scores: Scores, config: TrainConfig) -> Plan:
    """Advantages, AEM and weights, as `trainer.loop` goes about it."""
    estimator = estimators.get(config.algorithm.estimator)
    credit = estimator(signals(batch, outcomes, scores), **config.algorithm.estimator_options)
    span = batch.span_index if credit.per == "token" else None
    advantages = penalise_invalid(credit.values, outcomes.invalid, config.algorithm.invalid_penalty, span_index=span)
    modulation = aem.modulate(
        advantages,
        uncertainty(batch, scores, config.aem.proxy),
        batch.group_index,
        trajectory=batch.episode_index,
        span_index=span,
        **config.aem.modulate_options,
    )
    return make_plan(batch, modulation.advantages, credit.targets, outcomes.terminated, config.algorithm)


def stepped(learner: Learner, batch: Batch, scores: Scores, plan: Plan, config: TrainConfig, seed: int = 0) -> Step:
    """One pass over the batch in one optimiser step."""
    optimiser, own = cast(Recorder, learner.optimiser), cast("Recorder | None", learner.critic_optimiser)
    metrics = update(learner, batch, scores, plan, config, torch.Generator().manual_seed(seed))
    (gradients,) = optimiser.seen
    critic = [] if own is None else own.seen[0]
    for recorder in (optimiser, own):
        if recorder is not None:
            recorder.seen.clear()
    return Step(gradients, critic, metrics)


def difference(found: list[Tensor], want: list[Tensor]) -> float:
    """Norm of the difference of two gradients over the norm of the second."""
    assert len(found) == len(want) > 0
    one, two = (torch.cat([g.double().flatten() for g in gradients]) for gradients in (found, want))
    assert two.norm() > 1e-3
    return float((one - two).norm() / two.norm())

"""What is trained: the policy, perhaps a critic, and their optimisers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from aem_agent.model.interface import LanguageModel
from trainer.config import OptimiserConfig, TrainConfig
from trainer.policy import Policy
from trainer.scoring import Critic
from trainer.world import ALONE, World


@dataclass(frozen=True)
class Learner:
    """What is trained."""

    model: LanguageModel
    policy: Policy
    """The model under its training interface."""
    optimiser: torch.optim.Optimizer
    critic: Critic | None = None
    critic_optimiser: torch.optim.Optimizer | None = None
    world: World = ALONE
    """The processes that train it together."""


def make_learner(
    policy: Policy, lr: float, config: TrainConfig, world: World = ALONE, critic: torch.Generator | None = None
) -> Learner:
    """A policy with a fresh optimiser; and a new critic with its own, drawn from the generator `critic`, if there is
    one."""
    model = cast(LanguageModel, policy.model)
    optimiser = make_optimiser(policy.parameters(), lr, config.optimiser)
    if critic is None:
        return Learner(model, policy, optimiser, world=world)
    made = Critic(model.hidden_size, critic).to(model.device)
    own = make_optimiser(made.parameters(), config.algorithm.critic_lr, config.optimiser)
    return Learner(model, policy, optimiser, made, own, world)


def make_optimiser(parameters: Iterable[nn.Parameter], lr: float, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW in its fused form: one pass over the parameters that are trained, on CPU and CUDA alike."""
    trained = [p for p in parameters if p.requires_grad]
    return torch.optim.AdamW(trained, lr=lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """That of RL step `step` of `steps`, counted from 0: a linear rise over `warmup_steps` steps, and a linear fall to
    `final_lr` times its peak at the last."""
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = 1 - (1 - config.final_lr) * step / max(1, steps - 1)
    return config.lr * rise * fall

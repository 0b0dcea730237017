"""What studies start from: environment, model, warm start, and GRPO without anything that shapes rewards."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from trainer.config import TrainConfig
from trainer.recipes.alfworld_tiny import recipe as quickstart
from trainer.recipes.alfworld_weak_start import recipe as weak_start
from trainer.recipes.webshop_tiny import recipe as webshop


def _quiet(config: TrainConfig) -> TrainConfig:
    """Studies play held-out tasks themselves, with the last weights."""
    return replace(
        config,
        evaluation=replace(config.evaluation, tasks=1, every=0, sample_episodes=0),
        checkpoint=replace(config.checkpoint, every=30, keep=1),
    )


WEAK = replace(
    _quiet(weak_start),
    # Prompts only grow, and an episode is one sequence: several times cheaper than the recipe's window of three turns.
    model=replace(weak_start.model, prompt="plain-full", prompt_options={}),
    rollout=replace(weak_start.rollout, whole_episodes=True),
    # Chosen on seed 901, by the first steps of training alone: about 15 % success and 0.6 nats at temperature 1.
    warmstart=replace(
        weak_start.warmstart, steps=800, explore_steps=150, explore_noise=0.2, whole_episodes=True, save_every=400
    ),
    optimiser=replace(weak_start.optimiser, warmup_steps=5),
)

THOUGHTS = replace(WEAK, model=replace(WEAK.model, prompt="thoughts:ThoughtfulSpec", max_new_tokens=20))

STARTS: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "weak": WEAK,
        "thoughts": THOUGHTS,
        # Chosen on seed 901, by six steps without AEM: 20 to 45 % success, 10 tokens a response and 0.4 nats a token.
        "thoughts-strong": replace(
            THOUGHTS, warmstart=replace(THOUGHTS.warmstart, steps=1600, explore_steps=0), steps=40
        ),
        "small": replace(WEAK, model=replace(WEAK.model, preset="small")),
        "quickstart": _quiet(quickstart),
        "webshop": _quiet(webshop),
    }
)

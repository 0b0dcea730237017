"""A test bed for entropy modulation: an exploratory start with high entropy, reward 10/0, nothing that shapes it."""

from trainer.config import (
    AlgorithmConfig,
    EnvConfig,
    EvaluationConfig,
    ModelConfig,
    OptimiserConfig,
    RolloutConfig,
    TrainConfig,
    WarmstartConfig,
)

recipe = TrainConfig(
    description="AEM test bed: small embedded games from a weak, exploratory start (no penalty, no std floor)",
    env=EnvConfig("aem/ALFWorld-v0", kwargs={"size": "small"}),
    model=ModelConfig(preset="tiny", prompt="plain", prompt_options={"window": 3}, max_new_tokens=8),
    warmstart=WarmstartConfig(steps=1000, games=3000, noise=0.12, lr=4e-3, explore_steps=300, explore_noise=0.3),
    rollout=RolloutConfig(tasks=8, group_size=8, concurrency=64, max_steps=20),
    algorithm=AlgorithmConfig(estimator="grpo", invalid_penalty=0.0),
    optimiser=OptimiserConfig(lr=6e-4, minibatch_responses=400),
    evaluation=EvaluationConfig(split="valid_seen", tasks=120, max_steps=20),
    steps=60,
)

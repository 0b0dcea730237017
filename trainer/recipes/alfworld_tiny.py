"""The quickstart: behaviour cloning, then GRPO with AEM on small embedded games, in minutes on two CPU cores."""

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
    description="quickstart: small embedded ALFWorld games, 165k-parameter model, GRPO with AEM, under 5 minutes",
    env=EnvConfig("aem/ALFWorld-v0", kwargs={"size": "small"}),
    model=ModelConfig(preset="tiny", prompt="plain", prompt_options={"window": 3}, max_new_tokens=8),
    warmstart=WarmstartConfig(steps=1000, games=3000, noise=0.12, lr=4e-3, tokens_per_step=3600, save_every=250),
    rollout=RolloutConfig(tasks=12, group_size=8, temperature=0.7, concurrency=96, max_steps=20),
    algorithm=AlgorithmConfig(estimator="grpo", std_floor=1.0, invalid_penalty=0.1),
    optimiser=OptimiserConfig(lr=6e-4, warmup_steps=5, minibatch_responses=400, micro_tokens=8000),
    evaluation=EvaluationConfig(split="valid_seen", tasks=120, max_steps=20),
    steps=75,
)

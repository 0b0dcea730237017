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
    description="quickstart: small embedded ALFWorld games, 172k parameters, GRPO with AEM, about 4 minutes",
    env=EnvConfig("aem/ALFWorld-v0", kwargs={"size": "small"}),
    # Prompts only grow, so that an episode is one sequence: a turn costs its own dozen tokens, in play and in training.
    model=ModelConfig(preset="tiny", prompt="plain-full", max_new_tokens=8),
    warmstart=WarmstartConfig(
        steps=800, games=3000, noise=0.12, lr=4e-3, whole_episodes=True, tokens_per_step=3600, save_every=250
    ),
    rollout=RolloutConfig(tasks=12, group_size=8, concurrency=96, max_steps=20, whole_episodes=True),
    algorithm=AlgorithmConfig(estimator="grpo", std_floor=1.0, invalid_penalty=0.1),
    # Fresh Adam moments do damage at full rate, and so do the last steps' noise: hence the rise and the fall.
    optimiser=OptimiserConfig(lr=6e-4, warmup_steps=8, final_lr=0.2, minibatch_responses=400),
    # The best weights are chosen on training games: held-out ones are looked at before and after, never in between.
    evaluation=EvaluationConfig(
        split="valid_seen", tasks=120, every=20, interim_tasks=60, interim_split="train", max_steps=20
    ),
    steps=100,
)

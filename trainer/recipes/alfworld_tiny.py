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
    # Prompts only grow, so that an episode is one sequence: a turn costs its own dozen tokens, in play and in training.
    model=ModelConfig(preset="tiny", prompt="plain-full", max_new_tokens=8),
    warmstart=WarmstartConfig(
        steps=800,
        games=3000,
        noise=0.12,
        lr=4e-3,
        whole_episodes=True,
        context_weight=0.5,
        tokens_per_step=3600,
        save_every=250,
    ),
    rollout=RolloutConfig(tasks=12, group_size=8, concurrency=96, max_steps=20, whole_episodes=True),
    # Failures are twice as long as successes: per token they would outweigh them, and every probability would sink.
    algorithm=AlgorithmConfig(estimator="grpo", std_floor=1.0, invalid_penalty=0.1, aggregate="episode_mean"),
    optimiser=OptimiserConfig(lr=6e-4, warmup_steps=8, minibatch_responses=400),
    evaluation=EvaluationConfig(split="valid_seen", tasks=120, max_steps=20),
    steps=110,
)

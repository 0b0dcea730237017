"""Seconds long: the toy corridor with a very small model, to see that everything turns."""

from trainer.config import (
    AlgorithmConfig,
    CheckpointConfig,
    EnvConfig,
    EvaluationConfig,
    ModelConfig,
    OptimiserConfig,
    RolloutConfig,
    TrainConfig,
    WarmstartConfig,
)

recipe = TrainConfig(
    description="aem/Toy-v0 with a very small model: a few seconds, to see that everything turns",
    env=EnvConfig("aem/Toy-v0"),
    model=ModelConfig(
        preset_options={"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 2, "head_dim": 16, "ffn": 64},
        max_new_tokens=8,
    ),
    warmstart=WarmstartConfig(
        steps=40, expert="expert", games=100, noise=0.2, max_steps=30, tokens_per_step=1500, save_every=20
    ),
    rollout=RolloutConfig(tasks=4, group_size=4, concurrency=16, max_steps=12),
    algorithm=AlgorithmConfig(std_floor=1.0),
    optimiser=OptimiserConfig(lr=1e-3, minibatch_responses=64),
    evaluation=EvaluationConfig(split="test", tasks=16, max_steps=12),
    checkpoint=CheckpointConfig(every=2),
    steps=8,
)

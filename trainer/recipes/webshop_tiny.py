"""Shopping in minutes on a CPU: a small model clones an expert that knows the goal, then learns by reward alone."""

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
    description="generated web shop of 1,000 products, GRPO with AEM, minutes",
    env=EnvConfig("aem/WebShop-v0", kwargs={"products": 2000}, eval_kwargs={"products": 1000}),
    model=ModelConfig(
        preset="tiny",
        preset_options={
            "tokenizer": "word-number",
            "hidden_size": 96,
            "layers": 2,
            "heads": 4,
            "kv_heads": 4,
            "head_dim": 32,
            "tied": True,
            "max_positions": 1536,
        },
        vocabulary="all",
        prompt="plain-full",
        max_new_tokens=32,
    ),
    warmstart=WarmstartConfig(
        steps=900,
        expert="expert",
        expert_options={"query": "instruction"},
        games=6000,
        noise=0.1,
        max_steps=15,
        lr=4e-3,
        whole_episodes=True,
        tokens_per_step=3600,
    ),
    rollout=RolloutConfig(tasks=12, group_size=8, temperature=0.7, concurrency=96, max_steps=10, whole_episodes=True),
    algorithm=AlgorithmConfig(estimator="grpo", std_floor=1.0, invalid_penalty=0.1),
    optimiser=OptimiserConfig(lr=5e-4, warmup_steps=8, final_lr=0.2, minibatch_responses=200),
    evaluation=EvaluationConfig(
        split="dev", tasks=120, every=20, interim_tasks=60, interim_split="train", max_steps=10
    ),
    steps=100,
)

"""Rooms as large as ALFWorld's, both dialects: a model that plays official games it has never seen, in forty minutes.

Cloning carries most of it. Its loss falls late, when the model learns to copy names from what it has read: do not judge
a run by its first half.
"""

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
    description="official-like rooms in both dialects, 530k parameters, cloning then GRPO with AEM, 40 minutes",
    env=EnvConfig(
        "aem/ALFWorld-v0",
        kwargs={"size": "official"},
        variants=({"dialect": "old"}, {"dialect": "current"}),
        eval_kwargs={"dialect": "old"},
    ),
    model=ModelConfig(
        preset="tiny",
        # Tied: what attention copies from the input is what the head reads, so that rare names cost little to learn.
        preset_options={"hidden_size": 96, "head_dim": 24, "ffn": 256, "tied": True, "max_positions": 4096},
        vocabulary="all",
        prompt="plain-full",
        max_new_tokens=10,
    ),
    warmstart=WarmstartConfig(
        steps=2800,
        games=16_000,
        expert_options={"order": "prior"},
        noise=0.1,
        max_steps=50,
        whole_episodes=True,
        context_weight=0.5,
        tokens_per_step=3600,
        lr=4e-3,
    ),
    rollout=RolloutConfig(tasks=12, group_size=8, concurrency=96, max_steps=40, whole_episodes=True),
    algorithm=AlgorithmConfig(estimator="grpo", std_floor=1.0, invalid_penalty=0.1),
    # A sixth of the tiny recipe's rate: this clone is good already, and large steps take away what it has learnt.
    optimiser=OptimiserConfig(lr=1e-4, warmup_steps=8, final_lr=0.2, minibatch_responses=400),
    evaluation=EvaluationConfig(
        split="valid_unseen", tasks=120, every=20, interim_tasks=60, interim_split="train", max_steps=50
    ),
    steps=60,
)

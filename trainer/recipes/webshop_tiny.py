"""Shopping in minutes on a CPU: a small model clones a careless shopper, then learns to care by what purchases earn.

The demonstrations go for a product that fits, but leave out half of the options asked for, and those worth 0.3 or
more are cloned, won or not. They show how options are chosen; that one should is left for RL to find out.

Twice as many products are for sale in training as in evaluation; the same goals are held out of both.
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
    description="generated web shop, 380k parameters, clone of a careless shopper, GRPO with AEM, 5 to 8 minutes",
    env=EnvConfig("aem/WebShop-v0", kwargs={"products": 2000}, eval_kwargs={"products": 1000}),
    model=ModelConfig(
        preset="tiny",
        # Two blocks suffice to copy (find where a word stood, take what came after); four heads find the right word.
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
        max_new_tokens=28,
    ),
    warmstart=WarmstartConfig(
        steps=1000,  # copying words from the instruction is learnt late, and then quickly
        expert="expert",
        # Its searches are the instruction's own words: to be copied, not guessed.
        expert_options={"query": "instruction", "care": 0.5},
        least_return=0.3,
        games=6000,
        noise=0.1,
        max_steps=15,
        lr=4e-3,
        whole_episodes=True,
        tokens_per_step=3600,
    ),
    rollout=RolloutConfig(tasks=12, group_size=8, temperature=0.8, concurrency=96, max_steps=10, whole_episodes=True),
    # Searches are long: by tokens they would outweigh the few words that decide.
    algorithm=AlgorithmConfig(estimator="grpo", std_floor=1.0, invalid_penalty=0.1, aggregate="response_mean"),
    optimiser=OptimiserConfig(lr=5e-4, warmup_steps=8, final_lr=0.2, minibatch_responses=400),
    # The best weights are chosen on training goals: held-out ones are looked at before and after, never in between.
    evaluation=EvaluationConfig(
        split="dev", tasks=138, every=20, interim_tasks=100, interim_split="train", max_steps=10
    ),
    steps=80,
)

"""Shopping on a CPU: a small model clones an expert that knows the goal, then learns by purchases alone.

Cloning works: how well depends on `warmstart.steps`, since copying words from the instruction is learnt late and then
quickly. What RL adds to it with these settings has not been shown to be a clear gain.

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
    description="generated web shop, 380k parameters, cloning then GRPO with AEM",
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
        max_new_tokens=32,
    ),
    warmstart=WarmstartConfig(
        steps=600,
        expert="expert",
        # Its searches are the instruction's own words: to be copied, not guessed.
        expert_options={"query": "instruction"},
        games=6000,
        noise=0.1,
        max_steps=15,
        lr=4e-3,
        whole_episodes=True,
        tokens_per_step=3600,
    ),
    # Only whole successes count, as in the paper's protocol.
    rollout=RolloutConfig(
        tasks=16,
        group_size=8,
        temperature=0.8,
        concurrency=128,
        max_steps=10,
        whole_episodes=True,
        rewards="success",
    ),
    # Searches are long: by tokens they would outweigh the few words that decide.
    algorithm=AlgorithmConfig(estimator="grpo", std_floor=1.0, invalid_penalty=0.1, aggregate="response_mean"),
    optimiser=OptimiserConfig(lr=5e-4, warmup_steps=8, final_lr=0.2, minibatch_responses=400),
    # The best weights are chosen on training goals: held-out ones are looked at before and after, never in between.
    evaluation=EvaluationConfig(
        split="dev", tasks=138, every=30, interim_tasks=100, interim_split="train", max_steps=10
    ),
    steps=180,
)

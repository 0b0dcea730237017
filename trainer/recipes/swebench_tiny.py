"""The whole loop of SWE-bench in minutes on a CPU: rollouts in sandboxes, grading by the harness, updates with AEM.

A model of half a million parameters cannot mend programs. This one is shown the fixes of sixteen embedded tasks as
`sed` commands until it half knows them by heart, and RL on the same tasks, which pays for what the tests say, makes it
say them right more often. It is evaluated on those tasks too, at temperature 1: the figure says that the loop turns
and that rewards move the policy, and nothing about tasks it has not seen, of which it solves none.
"""

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

TASKS = 16

recipe = TrainConfig(
    description="embedded repositories in local sandboxes, 500k parameters, fixes learnt by heart, RLOO with AEM",
    env=EnvConfig("aem/SWEBench-v0", train_split="train", train_tasks=TASKS),
    model=ModelConfig(
        preset="tiny",
        preset_options={
            "tokenizer": "byte-bpe",
            "vocab_size": 768,
            "hidden_size": 128,
            "layers": 2,
            "heads": 4,
            "kv_heads": 4,
            "head_dim": 32,
            "max_positions": 512,
        },
        prompt="plain-full",
        max_new_tokens=96,
        corpus_games=TASKS,
    ),
    warmstart=WarmstartConfig(
        steps=30,  # of greedy answers most are right by then, of sampled ones a third
        expert="expert-sed",
        games=TASKS,
        noise=0.0,
        max_steps=8,
        lr=3e-3,
        whole_episodes=True,
        tokens_per_step=1500,
        concurrency=4,
    ),
    # One command and the submission are enough for most fixes; a third step forgives a slip.
    rollout=RolloutConfig(tasks=TASKS, group_size=4, temperature=1.0, concurrency=4, max_steps=3, whole_episodes=True),
    algorithm=AlgorithmConfig(
        estimator="rloo",
        invalid_penalty=0.0,
        clip_high=0.28,
        compact_filter=True,
        epochs=8,  # an episode costs a second of tests, an update nothing: much is learnt from few
    ),
    # The first steps of Adam are as large as any: without a warm-up one of them undoes the warm start.
    optimiser=OptimiserConfig(lr=3e-4, warmup_steps=6, minibatch_responses=512),
    evaluation=EvaluationConfig(split="train", tasks=TASKS, temperature=1.0, max_steps=3),
    checkpoint=CheckpointConfig(every=5),
    steps=15,
)

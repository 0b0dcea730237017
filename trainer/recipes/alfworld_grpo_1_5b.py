"""The paper's ALFWorld row GRPO + AEM with Qwen2.5-1.5B-Instruct, on the official games.

    ALFWORLD_DATA=DIR aem-train run alfworld-grpo-1-5b --set model.path=DIR/Qwen2.5-1.5B-Instruct

The paper's (AEM, arXiv 2605.00425): the model, 16 groups of 8, 150 steps, success 10 and failure 0, invalid actions
−0.1, AEM with λ = 1 within the group. `--set aem.enabled=false` is its baseline, and nothing else differs.

The framework's that it builds on (verl-agent, as GiGPO's recipes have it, arXiv 2505.10978): Adam at 1e-6, mini-batches
of 256 responses, KL loss 0.01 to the first model (k3), 50 steps an episode, the last two turns shown, prompts of 2,048
and responses of 512 tokens, temperature 1 in training and 0.4 in evaluation, an evaluation every 5 steps.

Ours, since the papers' texts were not at hand: the penalty for invalid actions as a term of the step (docs/algorithms),
weight decay, which split is evaluated (`valid_unseen`, after the best weights were chosen on `valid_seen`), the seed's
order of games, and all of `scale` and `rollout.engine`. Figures of the paper are the paper's; none were made here.
"""

from trainer.config import (
    AemConfig,
    AlgorithmConfig,
    CheckpointConfig,
    EnvConfig,
    EvaluationConfig,
    ModelConfig,
    OptimiserConfig,
    RolloutConfig,
    TrainConfig,
)
from trainer.recipes._sizes import ONE_GPU

recipe = TrainConfig(
    description="the paper's protocol on official ALFWorld: Qwen2.5-1.5B-Instruct, GRPO with AEM; a GPU",
    env=EnvConfig("aem/ALFWorld-v0", kwargs={"source": "official"}),
    model=ModelConfig(
        path="Qwen2.5-1.5B-Instruct", prompt="think-action", prompt_options={"window": 2}, max_new_tokens=512
    ),
    rollout=RolloutConfig(
        tasks=16,
        group_size=8,
        temperature=1.0,
        concurrency=128,
        max_steps=50,
        reward_scale=10.0,
        engine="vllm",
        engine_options={"max_model_len": 2560, "kv_cache_gib": 12.0},
    ),
    algorithm=AlgorithmConfig(
        estimator="grpo",
        std_floor=0.0,
        invalid_penalty=0.1,
        clip_low=0.2,
        clip_high=0.2,
        kl_coefficient=0.01,
        kl_estimator="k3",
    ),
    aem=AemConfig(enabled=True, lam=1.0, scope="group"),
    optimiser=OptimiserConfig(lr=1e-6, weight_decay=0.01, minibatch_responses=256, micro_tokens=16_384),
    scale=ONE_GPU,
    evaluation=EvaluationConfig(
        split="valid_unseen",
        tasks=134,
        every=5,
        interim_tasks=128,
        interim_split="valid_seen",
        temperature=0.4,
        max_steps=50,
    ),
    checkpoint=CheckpointConfig(every=10),
    steps=150,
    device="cuda",
)

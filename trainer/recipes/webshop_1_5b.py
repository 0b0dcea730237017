"""The published protocol for WebShop with a 1.5B instruct model: GRPO with AEM on the official products and goals.

Source: AEM (arXiv 2605.00425) and the GiGPO recipes it builds on (arXiv 2505.10978): 16 groups of 8, 150 steps, success
10 and failure 0, invalid actions −0.1, 15 steps per episode, prompts of 4,096 and responses of 512 tokens, the last two
turns shown, Adam at 1e-6, mini-batches of 64, temperature 1 in training and 0.4 in evaluation. Their KL loss of 0.01
to the first model is left out: this trainer has none.

Needs a GPU, the model, and the official files (`$WEBSHOP_DATA`):

    aem-train run webshop-1-5b --set model.path=DIR/Qwen2.5-1.5B-Instruct --set device=cuda

Nothing here was run at this size: figures of the paper are the paper's.
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
)

recipe = TrainConfig(
    description="the paper's protocol on official WebShop: Qwen2.5-1.5B-Instruct, GRPO with AEM; a GPU, model.path",
    # Official goals 0–499 are for testing, 500–1499 for development: training never sees them.
    env=EnvConfig("aem/WebShop-v0", kwargs={"source": "official"}),
    model=ModelConfig(
        path="Qwen2.5-1.5B-Instruct", prompt="think-action", prompt_options={"window": 2}, max_new_tokens=512
    ),
    rollout=RolloutConfig(tasks=16, group_size=8, temperature=1.0, concurrency=128, max_steps=15, rewards="success"),
    algorithm=AlgorithmConfig(estimator="grpo", std_floor=0.0, invalid_penalty=0.1, clip_low=0.2, clip_high=0.2),
    # 16,384 tokens per forward bound the memory; gradients of a mini-batch's parts add up.
    optimiser=OptimiserConfig(lr=1e-6, weight_decay=0.01, minibatch_responses=64, micro_tokens=16_384),
    evaluation=EvaluationConfig(
        split="test", tasks=500, every=5, interim_tasks=128, interim_split="dev", temperature=0.4, max_steps=15
    ),
    checkpoint=CheckpointConfig(every=10),
    steps=150,
)

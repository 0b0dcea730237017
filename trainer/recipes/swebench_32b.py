"""A protocol for SWE-bench with Qwen3-32B after DeepSWE and AEM: GRPO++ on R2E-Gym's tasks, AEM on.

GRPO++ (DeepSWE): the leave-one-out baseline without a std (`rloo`), clip-high, no KL and no entropy loss (this trainer
has neither by default), no length normalisation (the sum over tokens is divided by a constant), compact filtering.
AEM (arXiv 2605.00425) modulates its advantages; `--set aem.enabled=false` is the baseline, and nothing else differs.

From the published protocol: groups of 8, batches of 64 (8 tasks × 8), 250 steps, temperature 1, binary rewards; an
episode has the environment's 100 steps. Ours, since the papers' texts were not at hand: lengths of responses, learning
rate, clip bounds as DAPO's, the tokens the loss is divided by, temperature of the evaluation, episodes in flight.

Missing of the published protocol: its rejection sampling with twofold oversampling (groups of one outcome are skipped
here, and not replaced); one growing conversation per episode (the prompt `bash` is one message, which shows earlier
turns by their actions, so that every turn is a sequence of its own, computed anew); and its 64 GPUs: this trainer
keeps the model on one device, where weights, gradients and Adam's moments of 32B parameters do not fit. Until it trains
on several, this file is a description, and can be tried with a smaller model:

    aem-train run swebench-32b --set model.path=DIR/Qwen3-32B --set device=cuda \\
        --set env.kwargs.data=DIR/r2e-gym.jsonl --set env.eval_kwargs.data=DIR/swe-bench-verified.jsonl

Needs Docker with the tasks' images; SWE-bench Verified is for evaluation only, before and after, never to choose
weights by. Nothing here was run at this size: figures of the papers are the papers'.
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
    description="after DeepSWE, on R2E-Gym's tasks: Qwen3-32B, GRPO++ with AEM; GPUs, Docker, model.path, data files",
    env=EnvConfig(
        "aem/SWEBench-v0",
        # In training only what is submitted counts, so that the filter masks whatever ran into the step limit.
        kwargs={"source": "official", "data": "r2e-gym.jsonl", "sandbox": "docker", "at_limit": "fail"},
        eval_kwargs={"data": "swe-bench-verified.jsonl", "at_limit": "grade"},
    ),
    model=ModelConfig(path="Qwen3-32B", prompt="bash", max_new_tokens=4096),
    rollout=RolloutConfig(tasks=8, group_size=8, temperature=1.0, concurrency=64, rewards="success", reward_scale=1.0),
    algorithm=AlgorithmConfig(
        estimator="rloo",
        invalid_penalty=0.0,  # binary rewards
        aggregate="constant",
        aggregate_length=32_768,
        clip_low=0.2,
        clip_high=0.28,
        compact_filter=True,
    ),
    # One optimiser step per RL step: 64 episodes of at most 100 responses. One long turn per forward bounds the memory.
    optimiser=OptimiserConfig(lr=1e-6, minibatch_responses=6400, micro_tokens=32_768),
    evaluation=EvaluationConfig(split="test", tasks=500, temperature=1.0),
    checkpoint=CheckpointConfig(every=10),
    steps=250,
)

"""The paper's SWE-bench row GRPO++ + AEM with Qwen3-32B: DeepSWE's protocol on R2E-Gym's tasks, AEM on.

    torchrun --nnodes=8 --nproc-per-node=8 … -m trainer.cli run swebench-grpo-pp-32b --set model.path=DIR/Qwen3-32B \\
        --set env.kwargs.data=DIR/r2e-gym.jsonl --set env.eval_kwargs.data=DIR/swe-bench-verified.jsonl

The papers' (AEM, arXiv 2605.00425; DeepSWE): the model, groups of 8, batches of 64 (8 tasks × 8), up to twice as many
groups played as a step takes, those of one outcome turned down, 250 steps on 64 H200, binary rewards, temperature 1.
GRPO++ is leave-one-out without a std, clip-high, no KL, no entropy loss, no length normalisation (the sum over tokens
is divided by a constant), and compact filtering; AEM with λ = 1 modulates its advantages. `--set aem.enabled=false` is
the baseline, and nothing else differs.

Ours, since the papers' texts were not at hand: lengths of prompts and responses, learning rate, clip bounds as DAPO's,
the tokens the loss is divided by, the environment's 100 steps, what happens with too few groups of two outcomes (the
step trains on these), temperature of the evaluation, episodes in flight, and all of `scale` and `rollout.engine`.

Missing of the published protocol: one growing conversation per episode. The prompt `bash` is one message, which shows
earlier turns by their actions, so that every turn is a sequence of its own, computed anew. And the engine is one, on
the eight GPUs of the first machine: rejection sampling chooses among all groups, and no engine spreads over machines.

Needs Docker with the tasks' images; SWE-bench Verified is for evaluation only, before and after, never to choose
weights by. Figures of the papers are the papers'; nothing was run at this size here.
"""

from trainer.algorithms import use
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
from trainer.recipes._sizes import SIXTY_FOUR_GPUS, first_plays

_plain = TrainConfig(
    description="after DeepSWE, on R2E-Gym's tasks: Qwen3-32B, GRPO++ with AEM; 64 GPUs, Docker, data files",
    env=EnvConfig(
        "aem/SWEBench-v0",
        # In training only what is submitted counts, so that the filter masks whatever ran into the step limit.
        kwargs={"source": "official", "data": "r2e-gym.jsonl", "sandbox": "docker", "at_limit": "fail"},
        eval_kwargs={"data": "swe-bench-verified.jsonl", "at_limit": "grade"},
    ),
    model=ModelConfig(path="Qwen3-32B", prompt="bash", max_new_tokens=4096),
    rollout=RolloutConfig(
        tasks=8,
        group_size=8,
        temperature=1.0,
        concurrency=64,
        rewards="success",
        reward_scale=1.0,
        engine="vllm",
        engine_options={"max_model_len": 32_768},
    ),
    algorithm=AlgorithmConfig(invalid_penalty=0.0, aggregate_length=32_768),
    aem=AemConfig(enabled=True, lam=1.0, scope="group"),
    # One optimiser step per RL step: 64 episodes of at most 100 responses. One long turn per forward bounds the memory.
    optimiser=OptimiserConfig(lr=1e-6, minibatch_responses=6400, micro_tokens=32_768),
    scale=SIXTY_FOUR_GPUS,
    evaluation=EvaluationConfig(split="test", tasks=500, temperature=1.0),
    checkpoint=CheckpointConfig(every=10),
    steps=250,
    device="cuda",
)

recipe = use(first_plays(_plain, tensor_parallel=8, kv_cache_gib=24.0), "grpo-pp")

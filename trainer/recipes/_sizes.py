"""What a size of model needs, for the paper's recipes: GPUs, and how engine and trainer share them.

All of it is ours: the papers name models and, for SWE-bench, 64 H200. `aem-train run RECIPE --dry-run` estimates the
memory of each. Nothing was run at these sizes here.
"""

from dataclasses import replace

from trainer.config import ScaleConfig, TrainConfig

ONE_GPU = ScaleConfig(processes=1, shard=True, precision="bfloat16", checkpoint_activations=True)
"""1.5B on one GPU of 80 GB: float32 weights and moments, bfloat16 passes (a single process shards to get them)."""

EIGHT_GPUS = replace(ONE_GPU, processes=8)
"""7B on a machine of 8 GPUs of 80 GB, each with an engine for its share of the groups."""

SIXTY_FOUR_GPUS = replace(ONE_GPU, processes=64, rollouts="first")
"""32B on the 64 H200 of the paper: torchrun on eight machines of eight."""


def seven_b(smaller: TrainConfig, *, kv_cache_gib: float) -> TrainConfig:
    """The recipe of the 1.5B model with the 7B one: the protocol changes nothing else."""
    options = {**smaller.rollout.engine_options, "kv_cache_gib": kv_cache_gib}
    return replace(
        smaller,
        description=smaller.description.replace("1.5B", "7B").replace("a GPU", "8 GPUs"),
        model=replace(smaller.model, path="Qwen2.5-7B-Instruct"),
        rollout=replace(smaller.rollout, engine_options=options),
        optimiser=replace(smaller.optimiser, micro_tokens=8192),
        scale=EIGHT_GPUS,
    )


def first_plays(config: TrainConfig, *, tensor_parallel: int, kv_cache_gib: float) -> TrainConfig:
    """The recipe with one engine over several GPUs that plays all groups, as dynamic sampling chooses among them. It
    sleeps while a step trains."""
    options = {
        **config.rollout.engine_options,
        "tensor_parallel": tensor_parallel,
        "kv_cache_gib": kv_cache_gib,
        "sleep": True,
    }
    return replace(
        config,
        rollout=replace(config.rollout, engine_options=options),
        scale=replace(config.scale, rollouts="first"),
    )


def renamed(config: TrainConfig, algorithm: str) -> TrainConfig:
    """The recipe with another algorithm's name in its description."""
    return replace(config, description=config.description.replace("GRPO", algorithm))

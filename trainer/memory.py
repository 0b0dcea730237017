"""How much memory a run takes on each device, estimated from sizes alone: no tensor is made.

Counted are the tensors that decide whether a run fits; each function says how. What is not counted: what CUDA and the
allocator take for themselves (a few GB on a GPU), buffers of less than a layer, environments, and prompts' texts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainer.config import TrainConfig
from trainer.lora import matching

FLOAT = 4
"""Bytes of a number in single precision: weights that are trained, their gradients, Adam's moments, logits."""

LOGIT_COPIES = 4
"""Arrays of the head's logits that are alive at once: logits, log-probs, probabilities, and their gradient."""

PARTS_IN_FLIGHT = 2
"""Layers whose whole weights are there at once where weights are sharded: the one that computes, and the next."""

KEPT = ("weights", "Adam's moments", "whole copy", "reference", "critic")
"""What the trainer holds between updates."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of an architecture its memory depends on."""

    parameters: int
    """Weights, each counted once (a tied head is the embedding)."""
    outside: int
    """Those of them that lie outside the layers: embedding, head, last norm."""
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    """Inner width of the feed-forward."""
    max_positions: int
    """Longest sequence in tokens."""
    head_norms: bool = False
    """Whether heads of queries and keys are normalised (Qwen3)."""
    other_linear: tuple[tuple[str, int, int], ...] = ()
    """Names, widths of input and output of the linear layers where these are not our decoder's."""

    @property
    def ours(self) -> bool:
        """Whether it is our decoder's, which goes from its files to a device part by part."""
        return not self.other_linear

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Widths of input and output of each linear layer, by its name in the model."""
        if self.other_linear:
            return {name: (inputs, outputs) for name, inputs, outputs in self.other_linear}
        d, f = self.hidden_size, self.ffn
        block = {
            "qkv": (d, self.query + 2 * self.key),
            "out": (self.query, d),
            "gate_up": (d, 2 * f),
            "down": (f, d),
        }
        return {f"blocks.{layer}.{name}": size for layer in range(self.layers) for name, size in block.items()}

    @property
    def per_layer(self) -> int:
        """Weights of a layer."""
        return (self.parameters - self.outside) // self.layers

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of all key heads; values have the same."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes on one device, by what they are for."""

    training: dict[str, int]
    """Held by the trainer while it updates."""
    engine: dict[str, int]
    """Held by the engine that samples, beyond what it shares with the trainer."""
    tokens: int
    """Tokens of one forward and backward pass that activations were counted for."""
    bounded: bool
    """Whether a setting bounds these tokens (`optimiser.micro_tokens`), or they are the most there can be."""
    sleeps: bool
    """Whether the engine gives its memory up while the trainer updates."""

    @property
    def total(self) -> int:
        """The most that is held at once: all of it, or where the engine sleeps the larger of two phases, the update
        alone, and the engine beside what the trainer keeps between updates."""
        engine = sum(self.engine.values())
        if not self.sleeps:
            return sum(self.training.values()) + engine
        return max(sum(self.training.values()), engine + sum(self.training.get(name, 0) for name in KEPT))


def adapter_parameters(shape: Shape, rank: int, targets: Sequence[str]) -> int:
    """Weights of LoRA adapters: rank × (in + out) for each layer whose name ends as `targets` ask.

    Raises:
        LoraError: a target matches nothing.
    """
    linear = shape.linear
    return rank * sum(sum(linear[name]) for name in matching(linear, targets))


def trained_parameters(shape: Shape, config: TrainConfig) -> int:
    """Weights that have gradients: all, or those of the adapters."""
    scale = config.scale
    return adapter_parameters(shape, scale.lora_rank, scale.lora_targets) if scale.lora_rank else shape.parameters


def layer_activations(shape: Shape, width: int) -> int:
    """Bytes per token that a layer keeps for its backward pass, which computes with numbers of `width` bytes.

    Both norms' inputs and outputs (4d), and with norms of heads what enters these (q + k), in single precision, which
    norms are computed in; what leaves the qkv projection (q + 2k) and, turned by its position, goes into attention
    (q + k); what comes out (q); gate and up (2f), the activated gate (f), and their product (f). On a CPU up to a
    quarter more is kept, or more where lengths differ: attention there pads sequences, and copies keys and values for
    all heads. Fused norms, which GPUs have, keep less.
    """
    normed = 4 * shape.hidden_size + (shape.query + shape.key if shape.head_norms else 0)
    return FLOAT * normed + width * (3 * shape.query + 3 * shape.key + 4 * shape.ffn)


def activation_bytes(shape: Shape, tokens: int, width: int, *, checkpointed: bool) -> int:
    """Activations of `tokens` in one pass, numbers of `width` bytes; `checkpointed`: the states between layers, and all
    that one layer keeps while it is computed again."""
    if checkpointed:
        return tokens * (width * shape.layers * shape.hidden_size + layer_activations(shape, width))
    return tokens * shape.layers * layer_activations(shape, width)


def head_bytes(shape: Shape, tokens: int, most: int) -> int:
    """Logits of the head and what is made of them, in single precision, `most` logits at a time."""
    return LOGIT_COPIES * FLOAT * min(tokens * shape.vocab_size, max(most, shape.vocab_size))


def cache_bytes(shape: Shape, tokens: int, width: int) -> int:
    """Keys and values of `tokens` in all layers."""
    return 2 * tokens * width * shape.layers * shape.key


def gathered_bytes(shape: Shape, width: int) -> int:
    """Whole weights of the layers at work where weights are sharded, in what they compute in, and their gradients
    before these are summed over the devices and spread again."""
    weights = shape.outside + PARTS_IN_FLIGHT * shape.per_layer
    gradients = shape.outside + shape.per_layer
    return weights * width + gradients * FLOAT


def critic_parameters(shape: Shape) -> int:
    """Weights of PPO's critic: a layer of twice the width, and its output."""
    return 2 * shape.hidden_size * (shape.hidden_size + 1) + 2 * shape.hidden_size + 1


def estimate(shape: Shape, config: TrainConfig, *, head_logits: int) -> Estimate:
    """What a run of `config` takes on each of its devices, or on the first where it alone plays; `head_logits` are made
    at a time.

    Sequences are taken to be as long as they may be: `max_model_len` of the engine, else what the model takes.
    """
    scale, optimiser = config.scale, config.optimiser
    width = 2 if scale.precision == "bfloat16" else FLOAT
    share = scale.processes if scale.shard else 1
    most = _micro_tokens(shape, config)
    trained = trained_parameters(shape, config)
    training = {
        "weights": FLOAT * (shape.parameters + (trained if scale.lora_rank else 0)) // share,
        "gradients": FLOAT * trained // share,
        "Adam's moments": 2 * FLOAT * trained // share,
        "activations": activation_bytes(shape, most, width, checkpointed=scale.checkpoint_activations),
        "logits": head_bytes(shape, most, head_logits),
    }
    if scale.shard:
        training["whole layers at work"] = gathered_bytes(shape, width)
        training["whole copy"] = width * shape.parameters  # that is pushed to engines, sampled with, and saved
    if _has_reference(config):
        training["reference"] = FLOAT * shape.parameters // share
    if config.algorithm.estimator == "ppo":
        training["critic"] = 4 * FLOAT * critic_parameters(shape)
    sleeps = config.rollout.engine_options.get("sleep") is True
    return Estimate(training, engine_bytes(shape, config), most, optimiser.micro_tokens is not None, sleeps)


def engine_bytes(shape: Shape, config: TrainConfig) -> dict[str, int]:
    """What the engine holds on one device: its own copy of the weights, if it has one, and keys and values of as many
    sequences of full length as are in flight, or what its options allow."""
    options, own = config.rollout.engine_options, config.rollout.engine != "torch"
    copied = own or config.rollout.staleness > 0 or bool(options.keys() & {"dtype", "device"})
    fixed = options.get("kv_cache_gib")
    if isinstance(fixed, int | float):
        cache = int(fixed * 2**30)
    else:
        cache = engine_cache(shape, config, config.rollout.concurrency)
    weights = engine_width(config) * shape.parameters // tensor_parallel(config)
    return ({"engine's weights": weights} if copied else {}) | {"engine's keys and values": cache}


def engine_cache(shape: Shape, config: TrainConfig, sequences: int) -> int:
    """Keys and values, on one of the engine's devices, of as many sequences of full length."""
    heads = max(shape.kv_heads // tensor_parallel(config), 1)  # fewer heads than devices: each has a copy of one
    alike = replace(shape, kv_heads=heads)
    return cache_bytes(alike, sequences * sequence_limit(shape, config), engine_width(config))


def engine_width(config: TrainConfig) -> int:
    """Bytes of a number in the engine."""
    own = config.rollout.engine != "torch"
    dtype = str(config.rollout.engine_options.get("dtype", "auto" if own else config.scale.precision))
    return FLOAT if dtype == "float32" or (dtype == "auto" and config.device == "cpu") else 2


def tensor_parallel(config: TrainConfig) -> int:
    """Devices that one engine spreads over."""
    parallel = config.rollout.engine_options.get("tensor_parallel", 1)
    return parallel if isinstance(parallel, int) and parallel > 0 else 1


def sequence_limit(shape: Shape, config: TrainConfig) -> int:
    """Tokens that a prompt and its response may have together."""
    limit = config.rollout.engine_options.get("max_model_len")
    return limit if isinstance(limit, int) and limit > 0 else shape.max_positions


def _micro_tokens(shape: Shape, config: TrainConfig) -> int:
    """Tokens of one pass: what `micro_tokens` allows, or all sequences of a minibatch, as long as they may be."""
    rollout, optimiser = config.rollout, config.optimiser
    sequences = rollout.tasks * rollout.group_size
    if not rollout.whole_episodes:  # one sequence per response; a batch of just under one and a half stays one step
        played = math.inf if rollout.max_steps is None else sequences * rollout.max_steps
        sequences = int(min(math.ceil(1.5 * optimiser.minibatch_responses), played))
    longest = sequence_limit(shape, config)
    return max(longest, optimiser.micro_tokens) if optimiser.micro_tokens else sequences * longest


def _has_reference(config: TrainConfig) -> bool:
    """Whether there is a frozen copy of the weights: with adapters and no warm start (which trains them too), the model
    without them is the reference."""
    warm = config.warmstart.steps or config.warmstart.explore_steps
    wanted = config.algorithm.kl_coefficient > 0 or config.algorithm.kl_reward > 0
    return wanted and (not config.scale.lora_rank or warm > 0)

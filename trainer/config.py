"""What a training run is: frozen dataclasses, each field documented. `overrides.py` changes and stores them,
`config_rules.py` says which values can work.

A recipe is a file with `recipe = TrainConfig(...)`; a new run is a new file, not a new flag.

(Over 300 lines: it is one table of fields, each with its meaning, and reads best in one place.)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aem_envs.cli_common import Setting
from trainer.config_rules import ConfigError, check

__all__ = [
    "AemConfig",
    "AlgorithmConfig",
    "CheckpointConfig",
    "ConfigError",
    "EnvConfig",
    "EvaluationConfig",
    "MetricsConfig",
    "ModelConfig",
    "OptimiserConfig",
    "RolloutConfig",
    "ScaleConfig",
    "TrainConfig",
    "WarmstartConfig",
    "check",
]


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and which of its tasks."""

    id: str = "aem/ALFWorld-v0"
    """Gymnasium id, or `module:EnvId`."""
    kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """Arguments of the environment in training and evaluation, such as `source`, `size`, `max_steps`."""
    variants: tuple[Mapping[str, Setting], ...] = ()
    """Further arguments that take turns in training, such as dialects and sizes: one of them per RL step, all in
    demonstrations. Each has its own tasks."""
    eval_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """Arguments that differ in evaluation; they go over `kwargs`."""
    train_split: str = "train"
    """Split that demonstrations and rollouts come from."""
    train_tasks: int = 20_000
    """Size of the task pool; a split with fewer tasks gives all it has. Each pass over the pool has another order."""


@dataclass(frozen=True)
class ModelConfig:
    """Which model, and how it reads and answers."""

    path: str | None = None
    """Local folder in transformers format; None makes `preset`."""
    preset: str = "tiny"
    """Preset made by code when `path` is None: `tiny` or `small`."""
    preset_options: Mapping[str, Setting] = field(default_factory=dict)
    """Changes to the preset's sizes, such as `hidden_size`, `layers`."""
    vocabulary: Literal["played", "all"] = "played"
    """Words a preset's tokenizer knows: those of games played, or also all that the environment can say (official games
    name more things than a sample of games holds)."""
    corpus_games: int = 400
    """Games of the expert whose texts a preset's tokenizer is trained on, played one after the other: fewer where an
    environment takes seconds per step."""
    prompt: str = "plain"
    """Prompt spec's name."""
    prompt_options: Mapping[str, Setting] = field(default_factory=dict)
    """Arguments of the prompt spec, such as `window`."""
    parser: str | None = None
    """Parser's name; None: the one the prompt spec asks for."""
    max_new_tokens: int = 12
    """Longest response, the end token included."""


@dataclass(frozen=True)
class WarmstartConfig:
    """Behaviour cloning before RL. Each of its two stages is left out when its steps are 0."""

    steps: int = 0
    """Optimiser steps on expert demonstrations."""
    expert: str = "expert-search"
    """Name of an expert of the environment."""
    expert_options: Mapping[str, Setting] = field(default_factory=dict)
    """Arguments of the expert, such as `order`."""
    data: str | None = None
    """`episodes.jsonl` or SFT export to clone instead of an expert."""
    games: int = 3000
    """Games the expert plays."""
    noise: float = 0.12
    """Chance of a random action at each step of a demonstration; such a step is played but never a target."""
    explore_steps: int = 0
    """Further steps on demonstrations whose random actions are targets too: a weak, exploratory start."""
    explore_noise: float = 0.3
    """Share of random actions in the exploratory stage."""
    explore_games: int = 800
    """Games of the exploratory stage."""
    max_steps: int = 40
    """Steps allowed to a demonstration; only winning ones are cloned, and those of `least_return`."""
    least_return: float = 1.0
    """Native return from which a demonstration is cloned though it did not win."""
    concurrency: int = 1
    """Demonstrations in flight at once: more only helps where the environment's steps wait for other processes. What is
    cloned does not depend on it."""
    whole_episodes: bool = False
    """Clone a whole episode as one sequence where prompts only grow (`plain-full`): much cheaper per target."""
    history_targets: bool = False
    """Actions shown in a window of history are targets too, and only every (window + 1)-th turn makes a sequence."""
    context_weight: float = 0.0
    """Weight of predicting the other tokens too (task, room, observations): small models learn sooner to copy names."""
    tokens_per_step: int = 3600
    """Token budget of a minibatch; samples of like length go together."""
    lr: float = 4e-3
    """Peak learning rate (AdamW), after a linear warm-up, before a cosine decay to a tenth."""
    warmup: float = 0.05
    """Share of the steps that the learning rate rises."""
    weight_decay: float = 0.0
    save_every: int = 250
    """Steps between checkpoints of the warm start."""


@dataclass(frozen=True)
class RolloutConfig:
    """How experience is collected."""

    tasks: int = 12
    """Rollout groups per step."""
    group_size: int = 8
    """Episodes per group."""
    temperature: float = 1.0
    """Sampling temperature in training; log-probs and entropies are taken at it."""
    concurrency: int = 96
    """Episodes in flight at once."""
    max_steps: int | None = None
    """Turns allowed to an episode in training; None leaves the environment's own limit."""
    whole_episodes: bool = False
    """Train on whole episodes as one sequence where prompts only grow, instead of one sequence per turn."""
    rewards: Literal["native", "success"] = "native"
    """`native`: the environment's own, partial ones too (WebShop's lie in [0, 1]); `success`: 1 for a won episode, else
    0."""
    reward_scale: float = 10.0
    """Rewards times this are what advantages see."""
    engine: str = "torch"
    """Token engine that samples: `torch` (the trainer's own module), `vllm`, another of `aem_agent.engines`, or
    "module:Class". Text engines (chat endpoints) do not record what they sampled, and cannot be trained with."""
    engine_options: Mapping[str, Setting] = field(default_factory=dict)
    """Further arguments of the engine's `load`, such as `dtype`. The folder is the run's; `device` and `max_batch` are
    `device` and `rollout.concurrency` unless given here."""
    pool: str = "inline"
    """Where environments live: `inline` (in this process), `processes` (a few workers that hold many each), `ray`, or
    "module:Class"."""
    workers: int | None = None
    """Processes of the pool, for each variant of the environment; None: as many as there are processors, at most 8.
    Not with `inline`."""
    step_limit: float | None = None
    """Seconds that a reset or a step of an environment may take before its worker is replaced and its episode retried.
    This and the next cannot be kept `inline`, but for environments that are stepped in threads (`blocking`)."""
    episode_limit: float | None = None
    """Seconds that an episode may take, waiting for the engine included."""
    memory_limit: float | None = None
    """GB of resident memory of one worker process and its children, before it is replaced; not with `inline`."""
    answer_limit: float | None = None
    """Seconds that the engine may take for one response before the episode is retried; None: it has limits of its
    own."""
    retries: int = 1
    """Further attempts, with the same seed, at an episode that broken infrastructure ended."""
    dynamic: bool = False
    """Dynamic sampling (DAPO, arXiv 2503.14476): groups of uniform return, from which group-relative advantages learn
    nothing, are replaced by groups of further tasks."""
    dynamic_limit: float = 3.0
    """Groups that may be begun for a step, times `tasks`; then the step takes those there are."""
    oversample: float = 1.0
    """Groups begun at once, times `tasks`: spare ones for `early_stop`, or ready when `dynamic` turns down others."""
    early_stop: bool = False
    """Take the groups that are complete first, and drop what is still in flight: nobody waits for the slowest, but
    groups of short episodes are favoured, and what is taken depends on timing."""
    staleness: int = 0
    """Updates by which the weights that sampled a batch may lag: the rollouts of so many steps go on while one trains.
    0: rollouts and updates take turns, and a run repeats bit for bit."""
    partial: bool = False
    """With `staleness`: new weights reach the engine at once, and episodes in flight go on under them. Otherwise they
    wait until the rollouts in flight are complete, and each batch is sampled by one version."""

    @property
    def batch_options(self) -> dict[str, Any]:
        """Keyword arguments of `trainer.batch.build`."""
        return {
            "whole_episodes": self.whole_episodes,
            "reward_scale": self.reward_scale,
            "rewards": self.rewards,
        }


Aggregate = Literal["token_mean", "response_mean", "episode_mean", "constant"]


@dataclass(frozen=True)
class AlgorithmConfig:
    """The policy-gradient method."""

    estimator: str = "grpo"
    """Advantage estimator: `grpo`, `dr_grpo` (no std), `rloo` (leave-one-out baseline, no std), `reinforce_pp` (per
    token, whitened over the batch), `gigpo` (also among turns in equal states), `empg` (weighted by entropy), `ppo` (a
    critic with GAE), or "module:function", which may ask for a critic too."""
    baseline: Literal["mean", "length"] = "mean"
    """What GRPO takes from returns: the group's mean, or the mean weighted by length (OPO): for `token_mean`."""
    normalise: bool = True
    """Divide group-centred returns by the group's std (GRPO, GiGPO, EMPG); otherwise only centre them."""
    std_floor: float = 0.0
    """Least std, in units of scaled returns; 1.0 in the tiny presets, 0 in the paper's recipes. GiGPO's steps too."""
    invalid_penalty: float = 0.1
    """Taken from the advantage of each invalid response, in units of the normalised advantage."""
    loss: str = "clip"
    """Policy loss: `clip`, another of `trainer.losses.losses`, or "module:function"; called as `policy_loss` is."""
    aggregate: Aggregate = "token_mean"
    """How response tokens share the loss: every token, every response or every episode counts the same; `constant`: the
    sum over tokens is divided by episodes × `aggregate_length`, however long the responses are."""
    aggregate_length: int = 1024
    """Tokens by which `constant` divides, per episode: such as the most it may have."""
    clip_low: float = 0.2
    """The probability ratio is clipped below 1 − clip_low."""
    clip_high: float = 0.2
    """The probability ratio is clipped above 1 + clip_high."""
    dual_clip: float | None = None
    """c > 1 bounds the loss of negative advantages (3 is usual with PPO); None: off."""
    ratio: Literal["token", "sequence"] = "token"
    """Probability ratio per token, or one per response (GSPO)."""
    kl_coefficient: float = 0.0
    """Weight of the KL divergence to the reference, the policy as RL began, in the loss; 0: there is no reference."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """How that divergence is estimated per token; see `trainer/kl.py`."""
    kl_reward: float = 0.0
    """Taken from rewards per token, times log π − log π_ref: for `reinforce_pp`."""
    mismatch: Literal["none", "truncate", "mask"] = "none"
    """What is done where the trainer's log-probs are not those that the engine sampled with: nothing; importance
    weights cut off at `mismatch_cap` per token; or sequences above it masked. Costs a forward pass."""
    mismatch_cap: float | None = None
    """Largest importance weight of trainer against engine; None: 2 with `truncate`, 3 with `mask`."""
    overlong_limit: int | None = None
    """Response tokens that an episode may have before its return falls by a whole `reward_scale` (DAPO); None: off."""
    overlong_buffer: int = 1024
    """Tokens before that limit over which the penalty rises from 0 to 1."""
    entropy_bonus: float = 0.0
    """Weight of the mean token entropy in the loss."""
    skip_zero: bool = True
    """Leave responses with advantage 0 out of the update (uniform groups), unless a critic, `kl_coefficient` or
    `entropy_bonus` is to learn from them. They still count in AEM's statistics."""
    compact_filter: bool = False
    """Mask truncated episodes out of the loss, those that had earned the reward too. They still count in the baseline
    and in AEM's statistics (DeepSWE; see `trainer/filters.py`)."""
    normaliser: Literal["kept", "all"] = "kept"
    """What the loss is averaged over when responses are skipped: the kept ones, or all as if none were."""
    epochs: int = 1
    """Passes over the batch per step."""
    gamma: float = 1.0
    """Discount per turn (PPO, GiGPO: 0.95 there), or per token (PPO over tokens, REINFORCE++)."""
    gae_lambda: float = 0.95
    """λ of GAE (PPO)."""
    gae_level: Literal["turn", "token"] = "turn"
    """GAE over turns, or over response tokens (PPO)."""
    truncation_ends: bool = False
    """Count nothing after a truncated episode, as after a terminated one, instead of the critic's value of its last
    state: for tasks whose limits of steps or tokens are part of what is asked (PPO)."""
    critic_lr: float = 1e-3
    """Learning rate of the critic: a small head on the policy's final hidden states, detached (PPO)."""
    value_clip: float = 0.5
    """The critic's new value may leave the old one by this much before its loss is clipped (PPO)."""
    whiten: bool = True
    """Whiten advantages over the batch (PPO, REINFORCE++); always before the penalty and AEM."""
    options: Mapping[str, Setting] = field(default_factory=dict)
    """Further keyword options of the estimator; all there are for one from outside."""

    @property
    def estimator_options(self) -> dict[str, Any]:
        """Keyword arguments of the advantage estimator."""
        known: dict[str, dict[str, Any]] = {
            "grpo": {"baseline": self.baseline, "normalise": self.normalise, "std_floor": self.std_floor},
            "dr_grpo": {},
            "rloo": {},
            "reinforce_pp": {"gamma": self.gamma, "kl_coefficient": self.kl_reward, "whitened": self.whiten},
            "gigpo": {"gamma": self.gamma, "normalise": self.normalise, "std_floor": self.std_floor},
            "empg": {"normalise": self.normalise, "std_floor": self.std_floor},
            "ppo": {
                "level": self.gae_level,
                "gamma": self.gamma,
                "lam": self.gae_lambda,
                "whitened": self.whiten,
                "truncation_ends": self.truncation_ends,
            },
        }
        return known.get(self.estimator, {}) | dict(self.options)

    @property
    def mismatch_options(self) -> dict[str, Any]:
        """Keyword arguments of `trainer.scoring.score`."""
        return {"mismatch": self.mismatch, "mismatch_cap": self.mismatch_cap}


@dataclass(frozen=True)
class AemConfig:
    """Adaptive entropy modulation, the last step on advantages (arXiv 2605.00425)."""

    enabled: bool = True
    """Off is the plain baseline: α = 1."""
    lam: float = 1.0
    """λ of α = exp(−λH̃)/mean; 0 means α = 1."""
    scope: Literal["group", "trajectory", "batch"] = "group"
    """Over which responses min, max and mean are taken."""
    direction: Literal["normal", "reversed"] = "normal"
    """`reversed` uses exp(+λH̃) (ablation)."""
    shuffle: bool = False
    """Permute α within its scope (control)."""
    shuffle_by_sign: bool = False
    """Permute α among the responses of its scope whose advantages have the same sign (control)."""
    range_guard: float = 0.1
    """Nats; a scope whose entropies range over less is left alone."""
    proxy: Literal["mean_token_entropy", "mean_token_surprisal", "relative_surprisal"] = "mean_token_entropy"
    """What stands for a response's uncertainty; `relative_surprisal` is surprisal less entropy, whatever the state."""
    sign_mask: Literal["none", "fall", "rise"] = "none"
    """Keep only responses with A·(α−1) > 0 (`fall`) or < 0 (`rise`) (analysis)."""

    @property
    def modulate_options(self) -> dict[str, Any]:
        """Keyword arguments of `trainer.aem.modulate`; off is λ = 0 and no mask: the advantages, bit for bit."""
        return {
            "lam": self.lam if self.enabled else 0.0,
            "scope": self.scope,
            "direction": self.direction,
            "shuffle": self.shuffle and self.enabled,
            "shuffle_by_sign": self.shuffle_by_sign and self.enabled,
            "range_guard": self.range_guard,
            "sign_mask": self.sign_mask if self.enabled and self.sign_mask != "none" else None,
        }


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW of the RL stage."""

    lr: float = 6e-4
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly."""
    final_lr: float = 1.0
    """Share of the learning rate that is left at the last step, after a linear fall; 1: it stays."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    """Largest gradient norm; larger ones are scaled down to it."""
    minibatch_responses: int = 400
    """Responses per optimiser step, about."""
    micro_tokens: int | None = None
    """Tokens per forward at most; gradients of a minibatch's parts add up. None: the whole minibatch at once."""


@dataclass(frozen=True)
class ScaleConfig:
    """How much of a machine, or of several, a run takes. Nothing here changes the mathematics."""

    processes: int = 1
    """Processes that train together, one per device: more are started with torchrun, which may also start the command
    itself (`torchrun … -m trainer.cli run …`) and then decides."""
    shard: bool = False
    """Spread weights, gradients and optimiser states over the processes (FSDP2); otherwise each holds all of them.
    A single process may shard too: it is the way to bfloat16."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the forward and backward passes compute in; `bfloat16` keeps weights and optimiser states in float32, and
    needs `shard`."""
    rollouts: Literal["each", "first"] = "each"
    """Of several processes, who plays: `each` its share of the groups with an engine of its own, or the `first` alone,
    whose engine may spread over several devices."""
    checkpoint_activations: bool = False
    """Compute each layer's activations again in the backward pass instead of keeping them."""
    lora_rank: int = 0
    """Train adapters of this rank instead of the weights (LoRA, needs peft); 0: the weights."""
    lora_alpha: float = 32.0
    """The adapters' output is scaled by this over the rank."""
    lora_targets: tuple[str, ...] = ("qkv", "out", "gate_up", "down")
    """Linear layers that get adapters, by the ends of their names."""


@dataclass(frozen=True)
class MetricsConfig:
    """What is measured besides, where it goes, and what raises an alarm. `metrics.jsonl` is always written."""

    tensorboard: bool = False
    """Also write TensorBoard events into the run's folder (needs tensorboard)."""
    wandb: str | None = None
    """Also send metrics to this Weights & Biases project (needs wandb): the only setting that uploads anything."""
    drift_responses: int = 64
    """Responses of each step whose entropy is measured again after the update, beside the drift that theory predicts;
    0: none."""
    entropy_floor: float = 0.01
    """Mean token entropy, nats, below which the policy counts as collapsed."""
    ratio_limit: float = 10.0
    """Mean probability ratio of an update, above which, or below the inverse of which, it counts as exploded."""
    patience: int = 5
    """RL steps in a row over either limit before the alarm."""
    alarm: Literal["warn", "stop"] = "warn"
    """Whether an alarm is said once and written down, or ends the run after saving it."""
    episodes_every: int = 0
    """RL steps between recordings of a step's episodes to `episodes/`, with entropy, advantage and α of each turn; 0:
    none."""
    episodes_groups: int = 2
    """Groups of such a step that are recorded, its first ones."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Held-out evaluation."""

    split: str = "valid_seen"
    tasks: int = 120
    """Held-out tasks of the evaluations before and after RL."""
    every: int = 0
    """RL steps between evaluations in between; 0: only before and after."""
    interim_tasks: int = 60
    """Held-out tasks of the evaluations in between; they choose the best weights."""
    interim_split: str | None = None
    """Split of the evaluations in between; None: the same. Another one keeps the figure after RL free of selection."""
    temperature: float = 0.4
    """Temperature of the sampled evaluation; every evaluation is also done greedily."""
    max_steps: int | None = None
    """Turns allowed; None leaves the environment's own limit."""
    sample_episodes: int = 4
    """Episodes kept for the report from the evaluation before and after."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What is written when."""

    every: int = 20
    """RL steps between checkpoints."""
    keep: int = 2
    """Checkpoints kept; the best weights are kept besides."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    description: str = ""
    """One line for `aem-train list`."""
    env: EnvConfig = field(default_factory=EnvConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    warmstart: WarmstartConfig = field(default_factory=WarmstartConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    aem: AemConfig = field(default_factory=AemConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    steps: int = 100
    """RL steps."""
    seed: int = 0
    """Every random stream of the run derives from it."""
    device: str = "cpu"
    """torch device of the model."""
    threads: int = 1
    """torch threads on a CPU; more than one is slower on small models and busy machines."""

    @property
    def shaping_options(self) -> dict[str, Any]:
        """Keyword arguments of `trainer.shaping.shape`."""
        return {
            "limit": self.algorithm.overlong_limit,
            "buffer": self.algorithm.overlong_buffer,
            "scale": self.rollout.reward_scale,
        }

    def __post_init__(self) -> None:
        check(self)

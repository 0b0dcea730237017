"""What a training run is: frozen dataclasses, each field documented. `overrides.py` changes and stores them.

A recipe is a file with `recipe = TrainConfig(...)`; a new run is a new file, not a new flag.

(Over 300 lines: it is one table of fields, each with its meaning, and reads best in one place.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

from aem_envs.cli_common import CliError, Setting


class ConfigError(CliError):
    """A recipe or an override that cannot be right; the message names the key and what it may be."""


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


Aggregate = Literal["token_mean", "response_mean", "episode_mean", "constant"]


@dataclass(frozen=True)
class AlgorithmConfig:
    """The policy-gradient method."""

    estimator: str = "grpo"
    """Advantage estimator: `grpo`, `rloo` (leave-one-out baseline, no std), `ppo` (a critic with GAE), or
    "module:function", which may ask for a critic too."""
    baseline: Literal["mean", "length"] = "mean"
    """What GRPO takes from returns: the group's mean, or the mean weighted by length (OPO): for `token_mean`."""
    normalise: bool = True
    """Divide group-centred returns by the group's std (GRPO); otherwise only centre them."""
    std_floor: float = 0.0
    """Least std, in units of scaled returns; 1.0 in the tiny presets, 0 in the paper's recipes."""
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
    entropy_bonus: float = 0.0
    """Weight of the mean token entropy in the loss."""
    skip_zero: bool = True
    """Leave responses with advantage 0 out of the update (uniform groups). They still count in AEM's statistics."""
    compact_filter: bool = False
    """Mask truncated episodes out of the loss, those that had earned the reward too. They still count in the baseline
    and in AEM's statistics (DeepSWE; see `trainer/filters.py`)."""
    normaliser: Literal["kept", "all"] = "kept"
    """What the loss is averaged over when responses are skipped: the kept ones, or all as if none were."""
    epochs: int = 1
    """Passes over the batch per step."""
    gamma: float = 1.0
    """Discount per turn (PPO)."""
    gae_lambda: float = 0.95
    """λ of GAE (PPO)."""
    gae_level: Literal["turn", "token"] = "turn"
    """GAE over turns, or over response tokens (PPO)."""
    critic_lr: float = 1e-3
    """Learning rate of the critic: a small head on the policy's final hidden states, detached (PPO)."""
    value_clip: float = 0.5
    """The critic's new value may leave the old one by this much before its loss is clipped (PPO)."""
    whiten: bool = True
    """Whiten GAE advantages over the batch (PPO); always before the penalty and AEM."""
    options: Mapping[str, Setting] = field(default_factory=dict)
    """Further keyword options of the estimator; all there are for one from outside."""

    @property
    def estimator_options(self) -> dict[str, Any]:
        """Keyword arguments of the advantage estimator."""
        known: dict[str, dict[str, Any]] = {
            "grpo": {"baseline": self.baseline, "normalise": self.normalise, "std_floor": self.std_floor},
            "rloo": {},
            "ppo": {"level": self.gae_level, "gamma": self.gamma, "lam": self.gae_lambda, "whitened": self.whiten},
        }
        return known.get(self.estimator, {}) | dict(self.options)


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
    range_guard: float = 0.1
    """Nats; a scope whose entropies range over less is left alone."""
    proxy: Literal["mean_token_entropy", "mean_token_surprisal"] = "mean_token_entropy"
    """What stands for a response's uncertainty."""
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

    def __post_init__(self) -> None:
        check(self)


_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "must be positive",
        lambda value: value > 0,
        "env.train_tasks model.corpus_games model.max_new_tokens warmstart.games warmstart.explore_games "
        "warmstart.max_steps warmstart.concurrency warmstart.tokens_per_step warmstart.lr warmstart.save_every "
        "rollout.tasks rollout.group_size rollout.temperature rollout.concurrency rollout.max_steps "
        "rollout.reward_scale algorithm.aggregate_length algorithm.clip_high algorithm.epochs algorithm.critic_lr "
        "algorithm.value_clip optimiser.lr optimiser.grad_clip optimiser.minibatch_responses optimiser.micro_tokens "
        "evaluation.tasks evaluation.interim_tasks evaluation.max_steps checkpoint.every checkpoint.keep threads",
    ),
    (
        "must not be negative",
        lambda value: value >= 0,
        "steps warmstart.steps warmstart.explore_steps warmstart.context_weight warmstart.least_return "
        "warmstart.weight_decay algorithm.std_floor algorithm.invalid_penalty aem.lam aem.range_guard "
        "optimiser.warmup_steps optimiser.weight_decay evaluation.every evaluation.temperature "
        "evaluation.sample_episodes",
    ),
    ("must lie in [0, 1]", lambda value: 0 <= value <= 1, "warmstart.warmup algorithm.gamma algorithm.gae_lambda"),
    ("must lie in [0, 1)", lambda value: 0 <= value < 1, "warmstart.noise warmstart.explore_noise optimiser.betas"),
    ("must lie in (0, 1)", lambda value: 0 < value < 1, "algorithm.clip_low"),
    ("must lie in (0, 1]", lambda value: 0 < value <= 1, "optimiser.final_lr"),
    ("must be above 1, or none", lambda value: value > 1, "algorithm.dual_clip"),
)
"""What numbers may be: in words, as a test that NaN fails, and the keys it holds for (each part of a tuple)."""


def check(config: TrainConfig) -> None:
    """Raise `ConfigError` for values that cannot work, naming the key."""
    for words, holds, keys in _RULES:
        for key in keys.split():
            value = attrgetter(key)(config)
            parts = value if isinstance(value, tuple) else (value,)
            if not all(part is None or holds(part) for part in parts):
                raise ConfigError(f"{key} {words}, got {value}")
    if config.aem.enabled and config.aem.lam == 0 and config.aem.sign_mask != "none":
        raise ConfigError(
            f"aem.sign_mask={config.aem.sign_mask} with aem.lam=0 trains nothing, "
            "as α = 1 belongs to neither side: write aem.sign_mask=none"
        )
    if config.algorithm.estimator in ("grpo", "rloo") and config.rollout.group_size < 2:
        raise ConfigError(
            f"rollout.group_size must be at least 2 for {config.algorithm.estimator}: a group of one has no baseline"
        )

"""Overrides are typed, misspelt keys get a suggestion, and a config survives JSON."""

import json
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import pytest

from trainer.config import AlgorithmConfig, ConfigError, RolloutConfig, TrainConfig
from trainer.config_rules import _RULES
from trainer.overrides import config_hash, from_json, override, to_json


def test_values_take_the_type_of_their_field() -> None:
    config = override(
        TrainConfig(),
        [
            "optimiser.lr=1e-3",
            "aem.enabled=false",
            "steps=7",
            "optimiser.betas=0.8,0.95",
            "aem.lam=2",
            "env.kwargs.max_steps=20",
            "env.kwargs.source=official",
            "rollout.max_steps=none",
            "aem.scope=batch",
            "model.path=/models/x",
        ],
    )
    assert config.optimiser.lr == 1e-3
    assert config.aem.enabled is False
    assert config.steps == 7
    assert config.optimiser.betas == (0.8, 0.95)
    assert config.aem.lam == 2.0 and isinstance(config.aem.lam, float)
    assert config.env.kwargs == {"max_steps": 20, "source": "official"}
    assert config.rollout.max_steps is None
    assert config.aem.scope == "batch"
    assert config.model.path == "/models/x"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimiser.lrr=1", "did you mean 'optimiser.lr'"),
        ("optimizer.lr=1", "did you mean 'optimiser.lr'"),
        ("lr=1", "did you mean 'warmstart.lr'"),
        ("steps=soon", "whole number"),
        ("steps=1.5", "whole number"),
        ("steps=true", "whole number"),
        ("aem.enabled=1", "true or false"),
        ("aem.scope=room", "group, trajectory, batch"),
        ("optimiser.betas=0.9", "2 values"),
        ("aem=1", "group of settings"),
        ("steps.x=1", "has no parts"),
        ("steps", "key=value"),
        ("rollout.tasks=0", "must be positive"),
        ("warmstart.noise=1.0", r"warmstart.noise must lie in \[0, 1\)"),
        ("warmstart.warmup=3", r"warmstart.warmup must lie in \[0, 1\]"),
        ("warmstart.games=-1", "warmstart.games must be positive"),
        ("warmstart.context_weight=-1", "warmstart.context_weight must not be negative"),
        ("algorithm.gamma=5", "algorithm.gamma"),
        ("algorithm.gae_lambda=-0.1", "algorithm.gae_lambda"),
        ("algorithm.clip_low=5", r"algorithm.clip_low must lie in \(0, 1\)"),
        ("algorithm.clip_low=1.0", "algorithm.clip_low"),
        ("algorithm.clip_high=0", "algorithm.clip_high must be positive"),
        ("algorithm.dual_clip=0.5", "algorithm.dual_clip must be above 1"),
        ("optimiser.betas=0.9,1.0", "optimiser.betas"),
        ("optimiser.final_lr=2", "optimiser.final_lr"),
        ("rollout.max_steps=0", "rollout.max_steps must be positive"),
        ("rollout.group_size=1", "no baseline"),
        ("algorithm.aggregate_length=0", "aggregate_length must be positive"),
        ("warmstart.concurrency=0", "warmstart.concurrency must be positive"),
        ("env.kwargs.a.b=1", "nothing lies below"),
        ("rollout.workers=0", "rollout.workers must be positive"),
        ("rollout.step_limit=0", "rollout.step_limit must be positive"),
        ("rollout.episode_limit=-1", "rollout.episode_limit must be positive"),
        ("rollout.answer_limit=0", "rollout.answer_limit must be positive"),
        ("rollout.memory_limit=0", "rollout.memory_limit must be positive"),
        ("rollout.retries=-1", "rollout.retries must not be negative"),
        ("rollout.staleness=-1", "rollout.staleness must not be negative"),
        ("rollout.oversample=0.5", "rollout.oversample must be at least 1"),
        ("rollout.oversample=1.5", "rollout.early_stop=true or rollout.dynamic=true"),
        ("rollout.early_stop=true", "set rollout.oversample"),
        ("rollout.dynamic_limit=0.5", "rollout.dynamic_limit must be at least 1"),
        ("rollout.partial=true", "set rollout.staleness=1"),
        ("rollout.engine_options.a.b=1", "nothing lies below"),
    ],
)
def test_mistakes_are_named(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override(TrainConfig(), [setting])


def test_two_shuffles_are_refused() -> None:
    with pytest.raises(ConfigError, match="set one of them"):
        override(TrainConfig(), ["aem.shuffle=true", "aem.shuffle_by_sign=true"])


def test_a_sign_mask_needs_a_modulation_to_be_signed_by() -> None:
    with pytest.raises(ConfigError, match=r"aem.sign_mask=fall with aem.lam=0"):
        override(TrainConfig(), ["aem.lam=0", "aem.sign_mask=fall"])
    off = override(TrainConfig(), ["aem.enabled=false", "aem.lam=0", "aem.sign_mask=fall"])
    assert off.aem.modulate_options["sign_mask"] is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("estimator=rloo baseline=length", "rloo, which reads none of these settings"),
        ("estimator=dr_grpo baseline=length", "dr_grpo, which"),
        ("estimator=gigpo baseline=length", "gigpo, which reads normalise, gamma$"),
        ("estimator=empg baseline=length", "empg, which reads normalise$"),
        ("estimator=reinforce_pp normalise=false", "reinforce_pp, which reads gamma, whiten$"),
        ("whiten=false", "whiten=False changes nothing with algorithm.estimator=grpo, which reads baseline, normalise"),
        ("gae_level=token", "gae_level=token changes"),
        ("gae_lambda=0.9", "gae_lambda=0.9 changes"),
        ("gamma=0.9", "gamma=0.9 changes"),
        ("truncation_ends=true", "truncation_ends=True changes"),
        ("estimator=ppo normalise=false", "ppo, which reads gamma, gae_lambda, gae_level, truncation_ends, whiten$"),
        ("value_clip=0.1", "grpo, which has no critic"),
        ("critic_lr=0.1", "grpo, which has no critic"),
        ("kl_estimator=k2", "without algorithm.kl_coefficient"),
        ("overlong_buffer=5", "without algorithm.overlong_limit"),
        ("estimator=my_module:mine whiten=false", "algorithm.options.NAME"),
    ],
)
def test_settings_that_nothing_reads_are_refused(settings: str, words: str) -> None:
    given = [f"algorithm.{setting}" for setting in settings.split()]
    with pytest.raises(ConfigError, match=words):
        override(TrainConfig(), given)
    with pytest.raises(ConfigError, match=words):
        override(TrainConfig(), given[::-1])


def test_settings_that_are_read_or_not_made_now_are_not_refused() -> None:
    read = {
        "grpo": "baseline=length normalise=false",
        "gigpo": "gamma=0.9 normalise=false",
        "reinforce_pp": "gamma=0.9 whiten=false",
        "ppo": "gae_level=token gae_lambda=0.9 truncation_ends=true value_clip=0.1 critic_lr=0.1",
        "rloo": "std_floor=2 kl_estimator=k2 kl_coefficient=0.1 overlong_buffer=5 overlong_limit=9",
        "my_module:mine": "gae_level=token value_clip=0.1 options.gamma=0.5 dual_clip=4",
    }
    for estimator, settings in read.items():
        override(TrainConfig(), [f"algorithm.{s}" for s in (f"estimator={estimator}", *settings.split())])
    odd = TrainConfig(algorithm=AlgorithmConfig(estimator="rloo", baseline="length", gamma=0.9))
    assert from_json(to_json(odd)) == override(odd, ["steps=3", "steps=100"]) == odd, "earlier runs are read"
    override(TrainConfig(algorithm=AlgorithmConfig(gamma=0.9)), ["algorithm.estimator=rloo"])
    with pytest.raises(ConfigError, match="baseline=length changes nothing"):
        override(TrainConfig(algorithm=AlgorithmConfig(baseline="length")), ["algorithm.estimator=rloo"])


def test_dynamic_sampling_needs_groups_and_room() -> None:
    with pytest.raises(ConfigError, match=r"rollout\.group_size of at least 2"):
        override(TrainConfig(), ["algorithm.estimator=ppo", "rollout.dynamic=true", "rollout.group_size=1"])
    with pytest.raises(ConfigError, match=r"rollout\.dynamic_limit=3\.0 must not be below rollout\.oversample=4\.0"):
        override(TrainConfig(), ["rollout.dynamic=true", "rollout.oversample=4"])
    config = override(TrainConfig(), ["rollout.dynamic=true", "rollout.oversample=2", "rollout.early_stop=true"])
    assert config.rollout.dynamic_limit == 3.0


def test_settings_that_need_one_another_come_in_any_order() -> None:
    both = ["rollout.oversample=1.5", "rollout.early_stop=true"]
    assert override(TrainConfig(), both) == override(TrainConfig(), both[::-1])
    start = TrainConfig()
    override(start, ["rollout.tasks=3"])
    assert start == TrainConfig(), "what is overridden is a copy"


def test_every_number_has_a_rule_and_the_defaults_keep_it() -> None:
    def numbers(config: Any, prefix: str = "") -> set[str]:
        found: set[str] = set()
        for name, hint in get_type_hints(type(config)).items():
            if is_dataclass(hint):
                found |= numbers(getattr(config, name), f"{prefix}{name}.")
            elif {int, float} & {hint, *get_args(hint)}:
                found.add(f"{prefix}{name}")
        return found

    ruled = [key for *_, keys in _RULES for key in keys.split()]
    assert sorted(ruled) == sorted(numbers(TrainConfig()) - {"seed", "algorithm.entropy_bonus"})  # any number will do
    with pytest.raises(ConfigError, match="nan"):
        TrainConfig(algorithm=AlgorithmConfig(gamma=float("nan")))


def test_json_round_trip_and_hash() -> None:
    config = override(
        TrainConfig(rollout=RolloutConfig(tasks=3)), ["env.kwargs.rooms=small", "optimiser.betas=0.8,0.9"]
    )
    again = from_json(json.loads(json.dumps(to_json(config))))
    assert again == config
    assert config_hash(again) == config_hash(config)
    assert config_hash(override(config, ["aem.lam=0.5"])) != config_hash(config)
    assert config_hash(override(config, ["description=other words"])) == config_hash(config)


def test_json_of_an_earlier_version_gets_the_defaults_of_what_is_newer() -> None:
    data = to_json(override(TrainConfig(), ["rollout.tasks=3", "optimiser.betas=0.8,0.9"]))
    del data["rollout"]["staleness"], data["rollout"]["engine_options"], data["checkpoint"]
    config = from_json(data)
    assert config == override(TrainConfig(), ["rollout.tasks=3", "optimiser.betas=0.8,0.9"])


def test_json_of_another_version_is_refused() -> None:
    data = to_json(TrainConfig())
    data["aem"]["temperature"] = 1.0
    with pytest.raises(ConfigError, match="temperature"):
        from_json(data)

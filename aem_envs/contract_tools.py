"""What the checks of `contract` are made of: expectations, fresh environments, walks, the shape of `info`."""

import random
from collections.abc import Callable
from typing import Any

import gymnasium as gym

from aem_envs.core import AemEnvError, TextEnv
from aem_envs.info import INFO_KEYS, Seconds

SEED = 20_000
WALK = 12
"""Steps of the walks that are compared."""

Step = tuple[Any, ...]
_TYPES: dict[str, type | tuple[type, ...]] = {
    "task_id": str,
    "split": str,
    "task_type": str,
    "seed": int,
    "won": bool,
    "score": float,
    "admissible_actions": (list, type(None)),
    "action_valid": (bool, type(None)),
    "action_error": (str, type(None)),
    "parsed_action": (str, type(None)),
    "raw_obs": str,
    "anchor": str,
    "data_hash": str,
    "engine": str,
    "steps": int,
    "truncation_reason": (str, type(None)),
    "details": dict,
    "seconds": Seconds,
}


class ContractError(AemEnvError, AssertionError):
    """An environment breaks the contract; the message says where."""


def walk(env: TextEnv, steps: int, seed: int = SEED) -> list[Step]:
    """`steps` random admissible actions from where `env` stands, with what came back; stops at the episode's end."""
    rng = random.Random(seed)
    _, _, _, _, info = record = env.step("look around")
    records: list[Step] = [record]
    while len(records) < steps and not (record[2] or record[3]):
        record = env.step(rng.choice(info["admissible_actions"] or ["look"]))
        info = record[4]
        records.append(record)
    return records


def expect(condition: object, message: str) -> None:
    if not condition:
        raise ContractError(message)


def expect_raises(error: type[Exception], action: Callable[[], object], what: str) -> None:
    try:
        action()
    except error:
        return
    except Exception as other:
        raise ContractError(f"{what} must raise {error.__name__}, not {type(other).__name__}: {other}") from other
    raise ContractError(f"{what} must raise {error.__name__}")


def fresh(env: TextEnv, **kwargs: Any) -> TextEnv:
    """A new environment of the same kind."""
    expect(env.spec is not None, "make the environment with gym.make: checks make more of them from its spec")
    assert env.spec is not None
    made = gym.make(env.spec, **kwargs).unwrapped
    assert isinstance(made, TextEnv)
    return made


def check_info(env: TextEnv, observation: Any, info: dict[str, Any]) -> None:
    expect(
        observation in env.observation_space, f"the observation is not in the observation space: {observation!r:.80}"
    )
    expect(
        info.keys() == INFO_KEYS,
        f"info must have exactly the keys of core.Info; differs in {sorted(info.keys() ^ INFO_KEYS)}",
    )
    for key, kind in _TYPES.items():
        value = info[key]
        right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        expect(right, f"info[{key!r}] has the wrong type {type(value).__name__}")
    expect(0.0 <= info["score"] <= 1.0, f"info['score'] must lie in [0, 1], not {info['score']}")
    expect(info["split"] in env.splits, f"info['split'] {info['split']!r} is not one of env.splits")
    expect(
        (info["action_error"] is None) == (info["action_valid"] is not False),
        "action_error says why action_valid is False, only then",
    )
    times = info["seconds"].items()
    expect(
        all(isinstance(phase, str) and isinstance(spent, float) and spent >= 0 for phase, spent in times),
        "info['seconds'] holds seconds from 0 by phase",
    )
    actions = info["admissible_actions"]
    expect(
        (actions is not None) == env.capabilities.admissible_actions,
        "capabilities and info['admissible_actions'] disagree",
    )
    if actions is not None:
        expect(all(isinstance(action, str) for action in actions), "admissible actions must be strings")
        expect(len(set(actions)) == len(actions), "an admissible action is listed twice")

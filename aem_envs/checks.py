"""`check_text_env`: the contract of `aem_envs.core`, checked on a live environment. Third parties run it on theirs.

Every check is a function of the environment that raises `ContractError`; what an environment cannot do by its
`capabilities` is left out.
"""

import copy
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from aem_envs.core import INFO_KEYS, AemEnvError, BadOptionError, BadStateError, ResetNeededError, TextEnv

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
}
_NO_ACTIONS: tuple[Any, ...] = (None, 7, b"go", ["go"], float("nan"), "", " \n\t", "x" * 200_000, "é𝄞‮", "\x1b[2J", "\x00", "\ud800")
_NO_STATES: tuple[Any, ...] = (
    b"",
    b"\x80\x04K\x01.",  # a pickle
    b"{}",
    b"[" * 100_000,
    b'{"format":1e999}',
    b'{"steps":' + b"9" * 10_000 + b"}",
    b"\xff\xfe",
    "text",
    None,
)


class ContractError(AemEnvError, AssertionError):
    """An environment breaks the contract; the message says where."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    name: str
    error: str | None = None
    """None if the contract holds."""


def check_text_env(env: gym.Env[Any, Any]) -> None:
    """Check the whole contract on `env` (made by `gym.make`), Gymnasium's own `check_env` included.

    Raises:
        ContractError: what is broken, all of it.
    """
    failed = [f"{result.name}: {result.error}" for result in run_checks(env) if result.error]
    if failed:
        raise ContractError(f"{type(env.unwrapped).__name__} breaks the contract of TextEnv\n" + "\n".join(failed))


def run_checks(env: gym.Env[Any, Any]) -> list[CheckResult]:
    """Run every check, in order, and report each. Leaves `env` open, in an unspecified episode."""
    text_env = env.unwrapped
    if not isinstance(text_env, TextEnv):
        return [CheckResult("type", f"{type(text_env).__name__} is not a TextEnv")]
    results = []
    for check in CHECKS:
        error = None
        try:
            check(text_env)
        except Exception as problem:  # whatever a stranger's environment raises is the finding
            error = f"{type(problem).__name__}: {problem}"
        results.append(CheckResult(check.__name__.removeprefix("_").replace("_", " "), error))
    return results


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


def _expect(condition: object, message: str) -> None:
    if not condition:
        raise ContractError(message)


def _expect_raises(error: type[Exception], action: Callable[[], object], what: str) -> None:
    try:
        action()
    except error:
        return
    except Exception as other:
        raise ContractError(f"{what} must raise {error.__name__}, not {type(other).__name__}: {other}") from other
    raise ContractError(f"{what} must raise {error.__name__}")


def _fresh(env: TextEnv, **kwargs: Any) -> TextEnv:
    """A new environment of the same kind."""
    _expect(env.spec is not None, "make the environment with gym.make: checks make more of them from its spec")
    assert env.spec is not None
    made = gym.make(env.spec, **kwargs).unwrapped
    assert isinstance(made, TextEnv)
    return made


def _check_info(env: TextEnv, observation: Any, info: dict[str, Any]) -> None:
    _expect(observation in env.observation_space, f"the observation is not in the observation space: {observation!r:.80}")
    _expect(info.keys() == INFO_KEYS, f"info must have exactly the keys of core.Info; differs in {sorted(info.keys() ^ INFO_KEYS)}")
    for key, kind in _TYPES.items():
        value = info[key]
        right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        _expect(right, f"info[{key!r}] has the wrong type {type(value).__name__}")
    _expect(0.0 <= info["score"] <= 1.0, f"info['score'] must lie in [0, 1], not {info['score']}")
    _expect(info["split"] in env.splits, f"info['split'] {info['split']!r} is not one of env.splits")
    _expect((info["action_error"] is None) == (info["action_valid"] is not False), "action_error says why action_valid is False, only then")
    actions = info["admissible_actions"]
    _expect((actions is not None) == env.capabilities.admissible_actions, "capabilities and info['admissible_actions'] disagree")
    if actions is not None:
        _expect(all(isinstance(action, str) for action in actions), "admissible actions must be strings")
        _expect(len(set(actions)) == len(actions), "an admissible action is listed twice")


def _gymnasium(env: TextEnv) -> None:
    check_env(env, skip_render_check=True)


def _reset_and_step(env: TextEnv) -> None:
    observation, info = env.reset(seed=SEED)
    _check_info(env, observation, info)
    start = (info["steps"], info["action_valid"], info["won"], info["truncation_reason"])
    _expect(start == (0, None, False, None), "reset must begin with steps 0, action_valid None, won False")
    for number, (seen, reward, terminated, truncated, info) in enumerate(walk(env, WALK), 1):
        _check_info(env, seen, info)
        _expect(isinstance(reward, float), "the reward must be a float")
        _expect(type(terminated) is bool and type(truncated) is bool, "terminated and truncated must be bools")
        _expect(not (terminated and truncated), "an episode ends either terminated or truncated")
        _expect((info["truncation_reason"] is not None) == truncated, "truncation_reason is set exactly when truncated")
        _expect(not info["won"] or terminated, "a won episode is terminated")
        _expect(info["steps"] == number, f"info['steps'] must count actions: {info['steps']} after {number}")


def _determinism(env: TextEnv) -> None:
    def run() -> list[Any]:
        return [env.reset(seed=SEED), walk(env, WALK), env.reset(), walk(env, WALK)]

    first = run()
    np.random.seed(1)  # noqa: NPY002  # the global generators must have no say, and must be left alone
    random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    _expect(run() == first, "the same seed and actions must give the same episodes")
    after = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    _expect(before == after, "a global random generator was used: only self.np_random may be")


def _options(env: TextEnv) -> None:
    seen: dict[str, str] = {}
    for split in env.splits:
        ids = list(islice(env.task_ids(split, 5), 5))
        _expect(ids, f"split {split!r} has no tasks")
        for task_id in ids:
            _expect(seen.setdefault(task_id, split) == split, f"task {task_id!r} is in two splits")
        first, info = env.reset(seed=SEED, options={"split": split, "task_id": ids[-1]})
        echoed = info["split"], info["task_id"], info["seed"]
        _expect(echoed == (split, ids[-1], SEED), "reset must echo split, task_id and seed")
        again, info = env.reset(options={"task_id": ids[-1]})
        _expect(again == first and info["split"] == split, "a task id must name one task, whatever was played before")
        _, info = env.reset(options={"split": split})
        _expect(info["split"] == split, "options['split'] must choose the split")
    bad = [{"spilt": "train"}, {"split": "no such split"}, {"split": 3}, {"task_id": "no such task"}, {"task_id": 3}]
    for options in bad:
        _expect_raises(BadOptionError, lambda: env.reset(options=options), f"reset(options={options})")  # noqa: B023
    _expect_raises(BadOptionError, lambda: env.task_ids("no such split", 1), "task_ids of an unknown split")


def _bad_actions(env: TextEnv) -> None:
    _, info = env.reset(seed=SEED)
    actions, anchor, steps = info["admissible_actions"], info["anchor"], 0
    for action in _NO_ACTIONS:
        observation, reward, terminated, truncated, info = env.step(action)
        steps += 1
        what = f"after the action {action!r:.40}"
        _check_info(env, observation, info)
        _expect(not (terminated or (truncated and steps < env.max_steps)), f"{what} the episode ended")
        _expect(reward == 0.0, f"{what} there was a reward")
        _expect(info["action_valid"] is False and info["action_error"], f"{what} action_valid must be False, with a reason")
        _expect(info["steps"] == steps, f"{what} the step was not counted")
        _expect(info["admissible_actions"] == actions and info["anchor"] == anchor, f"{what} the state had changed")


def _order_of_calls(env: TextEnv) -> None:
    fresh = _fresh(env)
    _expect_raises(ResetNeededError, lambda: fresh.step("look"), "step before reset")
    fresh.reset(seed=SEED)
    while not any(fresh.step("")[2:4]):
        pass
    _expect_raises(ResetNeededError, lambda: fresh.step("look"), "step after the end")
    fresh.reset()
    fresh.close()
    fresh.close()


def _step_limit(env: TextEnv) -> None:
    limited = _fresh(env, max_steps=3)
    limited.reset(seed=SEED)
    ends = [limited.step("")[2:] for _ in range(3)]
    _expect([end[:2] for end in ends] == [(False, False)] * 2 + [(False, True)], "the third of max_steps=3 actions must truncate")
    _expect(ends[-1][2]["truncation_reason"] == "max_steps", "its truncation_reason must be 'max_steps'")
    limited.close()


def _admissible_actions(env: TextEnv) -> None:
    if not (env.capabilities.admissible_actions and env.capabilities.snapshot):
        return
    _, info = env.reset(seed=SEED)
    state = env.get_state()
    for action in info["admissible_actions"][:40]:
        _, _, _, _, after = env.step(action)
        _expect(after["action_valid"], f"the admissible action {action!r} was refused: {after['action_error']}")
        env.set_state(state)


def _snapshots(env: TextEnv) -> None:
    if not env.capabilities.snapshot:
        return
    env.reset(seed=SEED)
    walk(env, 3)
    state = env.get_state()
    _expect(isinstance(state, bytes), "get_state must return bytes")
    truth = [walk(env, WALK), env.reset(), walk(env, WALK)]
    other = _fresh(env)
    for target in (env, other):
        target.set_state(state)
        _expect(target.get_state() == state, "get_state after set_state must give the same bytes")
        _expect([walk(target, WALK), target.reset(), walk(target, WALK)] == truth, "after set_state everything must go on identically")
    env.set_state(state)
    for hostile in (*_NO_STATES, state[:-1], state.replace(b'"steps":', b'"stept":'), state.replace(b'"steps":', b'"steps":-')):
        _expect_raises(BadStateError, lambda: env.set_state(hostile), f"set_state({hostile!r:.40})")  # noqa: B023
        _expect(env.get_state() == state, f"set_state({hostile!r:.40}) changed the running episode")
    other.close()


def _copies(env: TextEnv) -> None:
    if not env.capabilities.deepcopy:
        return
    unused = pickle.loads(pickle.dumps(_fresh(env)))
    env.reset(seed=SEED)
    _expect(unused.reset(seed=SEED)[0] == env.reset(seed=SEED)[0], "a pickled environment must work before its first reset too")
    walk(env, 3)
    copies = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    truth = [walk(env, WALK), env.reset(), walk(env, WALK)]
    for other in copies:
        _expect([walk(other, WALK), other.reset(), walk(other, WALK)] == truth, "a copy must go on as the original does, independently")
        other.close()


def _rendering(env: TextEnv) -> None:
    for mode in ("ansi", "html"):
        shown = _fresh(env, render_mode=mode)
        shown.reset(seed=SEED)
        shown.step("<script>alert(1)</script>\x1b[31m")
        text = shown.render()
        _expect(isinstance(text, str) and text, f"render_mode={mode!r} must render a string")
        _expect("\x1b[31m" not in str(text), f"render_mode={mode!r} lets escape sequences through")
        if mode == "html":
            page = str(text).lower()
            _expect("<script" not in page and "src=" not in page and "&lt;script&gt;" in page, "html must be escaped and self-contained")
        shown.close()
    _expect_raises(BadOptionError, lambda: _fresh(env, render_mode="hologram"), "an unknown render_mode")


CHECKS: tuple[Callable[[TextEnv], None], ...] = (
    _gymnasium,
    _reset_and_step,
    _determinism,
    _options,
    _bad_actions,
    _order_of_calls,
    _step_limit,
    _admissible_actions,
    _snapshots,
    _copies,
    _rendering,
)

"""The contract of `aem_envs.core`, one function per part of it; `checks` runs them.

Each takes an environment and raises `ContractError`. What an environment cannot do by its `capabilities` is left out.
"""

import copy
import pickle
import random
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import check_env

from aem_envs.contract_tools import SEED, WALK, check_info, expect, expect_raises, fresh, walk
from aem_envs.core import BadOptionError, BadStateError, ResetNeededError, TextEnv

_NO_ACTIONS: tuple[Any, ...] = (
    None,
    7,
    b"go",
    ["go"],
    float("nan"),
    "",
    " \n\t",
    "x" * 200_000,
    "é𝄞‮",
    "\x1b[2J",
    "\x00",
    "\ud800",
)
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


def _gymnasium(env: TextEnv) -> None:
    check_env(env, skip_render_check=True)


def _reset_and_step(env: TextEnv) -> None:
    observation, info = env.reset(seed=SEED)
    check_info(env, observation, info)
    start = (info["steps"], info["action_valid"], info["won"], info["truncation_reason"])
    expect(start == (0, None, False, None), "reset must begin with steps 0, action_valid None, won False")
    for number, (seen, reward, terminated, truncated, info) in enumerate(walk(env, WALK), 1):
        check_info(env, seen, info)
        expect(isinstance(reward, float), "the reward must be a float")
        expect(type(terminated) is bool and type(truncated) is bool, "terminated and truncated must be bools")
        expect(not (terminated and truncated), "an episode ends either terminated or truncated")
        expect((info["truncation_reason"] is not None) == truncated, "truncation_reason is set exactly when truncated")
        expect(not info["won"] or terminated, "a won episode is terminated")
        expect(info["steps"] == number, f"info['steps'] must count actions: {info['steps']} after {number}")


def _determinism(env: TextEnv) -> None:
    def run() -> list[Any]:
        return [env.reset(seed=SEED), walk(env, WALK), env.reset(), walk(env, WALK)]

    first = run()
    np.random.seed(1)  # the global generators must have no say, and must be left alone
    random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    expect(run() == first, "the same seed and actions must give the same episodes")
    after = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    expect(before == after, "a global random generator was used: only self.np_random may be")


def _options(env: TextEnv) -> None:
    seen: dict[str, str] = {}
    for split in env.splits:
        ids = list(islice(env.task_ids(split, 5), 5))
        expect(ids, f"split {split!r} has no tasks")
        for task_id in ids:
            expect(seen.setdefault(task_id, split) == split, f"task {task_id!r} is in two splits")
        first, info = env.reset(seed=SEED, options={"split": split, "task_id": ids[-1]})
        echoed = info["split"], info["task_id"], info["seed"]
        expect(echoed == (split, ids[-1], SEED), "reset must echo split, task_id and seed")
        again, info = env.reset(options={"task_id": ids[-1]})
        expect(again == first and info["split"] == split, "a task id must name one task, whatever was played before")
        expect(env.data_hash(ids[-1]) == info["data_hash"], "data_hash and info['data_hash'] disagree")
        _, info = env.reset(options={"split": split})
        expect(info["split"] == split, "options['split'] must choose the split")
    bad: list[dict[str, Any]] = [
        {"spilt": "train"},
        {"split": "no such split"},
        {"split": 3},
        {"task_id": "no such task"},
        {"task_id": 3},
    ]
    for options in bad:
        expect_raises(BadOptionError, lambda: env.reset(options=options), f"reset(options={options})")  # noqa: B023
    expect_raises(BadOptionError, lambda: env.task_ids("no such split", 1), "task_ids of an unknown split")
    bad_limits: tuple[Any, ...] = (-1, 1.5, True)
    for limit in bad_limits:
        expect_raises(BadOptionError, lambda: env.task_ids(env.splits[0], limit), f"task_ids with the limit {limit}")  # noqa: B023


def _bad_actions(env: TextEnv) -> None:
    _, info = env.reset(seed=SEED)
    actions, anchor = info["admissible_actions"], info["anchor"]
    for steps, action in enumerate(_NO_ACTIONS[: env.max_steps], 1):
        observation, reward, terminated, truncated, info = env.step(action)
        what = f"after the action {action!r:.40}"
        check_info(env, observation, info)
        expect(not (terminated or (truncated and steps < env.max_steps)), f"{what} the episode ended")
        expect(reward == 0.0, f"{what} there was a reward")
        expect(
            info["action_valid"] is False and info["action_error"], f"{what} action_valid must be False, with a reason"
        )
        expect(info["steps"] == steps, f"{what} the step was not counted")
        expect(info["admissible_actions"] == actions and info["anchor"] == anchor, f"{what} the state had changed")


def _order_of_calls(env: TextEnv) -> None:
    new = fresh(env)
    expect_raises(ResetNeededError, lambda: new.step("look"), "step before reset")
    new.reset(seed=SEED)
    while not any(new.step("")[2:4]):
        pass
    expect_raises(ResetNeededError, lambda: new.step("look"), "step after the end")
    new.reset()
    new.close()
    new.close()
    expect_raises(ResetNeededError, lambda: new.step("look"), "step after close")


def _step_limit(env: TextEnv) -> None:
    limited = fresh(env, max_steps=3)
    limited.reset(seed=SEED)
    ends = [limited.step("")[2:] for _ in range(3)]
    expect(
        [end[:2] for end in ends] == [(False, False)] * 2 + [(False, True)],
        "the third of max_steps=3 actions must truncate",
    )
    expect(ends[-1][2]["truncation_reason"] == "max_steps", "its truncation_reason must be 'max_steps'")
    limited.close()


def _admissible_actions(env: TextEnv) -> None:
    if not (env.capabilities.admissible_actions and env.capabilities.snapshot):
        return
    _, info = env.reset(seed=SEED)
    state = env.get_state()
    for action in info["admissible_actions"][:40]:
        _, _, _, _, after = env.step(action)
        expect(after["action_valid"], f"the admissible action {action!r} was refused: {after['action_error']}")
        env.set_state(state)


def _snapshots(env: TextEnv) -> None:
    if not env.capabilities.snapshot:
        return
    env.reset(seed=SEED)
    walk(env, 3)
    state = env.get_state()
    expect(isinstance(state, bytes), "get_state must return bytes")
    truth = [walk(env, WALK), env.reset(), walk(env, WALK)]
    other = fresh(env)
    for target in (env, other):
        target.set_state(state)
        expect(target.get_state() == state, "get_state after set_state must give the same bytes")
        expect(
            [walk(target, WALK), target.reset(), walk(target, WALK)] == truth,
            "after set_state everything must go on identically",
        )
    env.set_state(state)
    for hostile in (
        *_NO_STATES,
        state[:-1],
        state.replace(b'"steps":', b'"stept":'),
        state.replace(b'"steps":', b'"steps":-'),
    ):
        expect_raises(BadStateError, lambda: env.set_state(hostile), f"set_state({hostile!r:.40})")  # noqa: B023
        expect(env.get_state() == state, f"set_state({hostile!r:.40}) changed the running episode")
    other.close()


def _copies(env: TextEnv) -> None:
    if not env.capabilities.deepcopy:
        return
    unused = pickle.loads(pickle.dumps(fresh(env)))
    env.reset(seed=SEED)
    expect(
        unused.reset(seed=SEED)[0] == env.reset(seed=SEED)[0],
        "a pickled environment must work before its first reset too",
    )
    walk(env, 3)
    copies = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    truth = [walk(env, WALK), env.reset(), walk(env, WALK)]
    for other in copies:
        expect(
            [walk(other, WALK), other.reset(), walk(other, WALK)] == truth,
            "a copy must go on as the original does, independently",
        )
        other.close()


def _rendering(env: TextEnv) -> None:
    for mode in ("ansi", "html"):
        shown = fresh(env, render_mode=mode)
        shown.reset(seed=SEED)
        shown.step("<script>alert(1)</script>\x1b[31m")
        text = shown.render()
        expect(isinstance(text, str) and text, f"render_mode={mode!r} must render a string")
        expect("\x1b[31m" not in str(text), f"render_mode={mode!r} lets escape sequences through")
        if mode == "html":
            page = str(text).lower()
            expect(
                "<script" not in page and "src=" not in page and "&lt;script&gt;" in page,
                "html must be escaped and self-contained",
            )
        shown.close()
    expect_raises(BadOptionError, lambda: fresh(env, render_mode="hologram"), "an unknown render_mode")


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

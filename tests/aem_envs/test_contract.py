"""Every registered environment keeps the contract; and the checks notice when one does not."""

import gymnasium as gym
import pytest
from swe_rooms import needs_any

import aem_envs
from aem_envs.checks import ContractError, check_text_env, run_checks
from aem_envs.toy import ToyEnv
from aem_envs.webshop.browser.process import BrowserMissingError


@pytest.mark.parametrize(
    "env_id",
    [
        pytest.param(env_id, marks=pytest.mark.slow if "Browser" in env_id or "SWE" in env_id else ())
        for env_id in aem_envs.env_ids()
    ],
)
def test_registered_environments_keep_the_contract(env_id):
    if "SWE" in env_id:
        needs_any()
    try:
        env = gym.make(env_id)
    except BrowserMissingError as error:
        pytest.skip(str(error))
    try:
        check_text_env(env)
    finally:
        env.close()


class _Broken(ToyEnv):
    """A toy with one fault, chosen by name."""

    fault = ""

    def reset(self, *, seed=None, options=None):
        if self.fault == "options":
            options = {key: value for key, value in (options or {}).items() if key in ("task_id", "split")}
        if self.fault == "seed":
            seed = None
        observation, info = super().reset(seed=seed, options=options)
        if self.fault == "keys":
            info["extra"] = 1
        return observation, info

    def step(self, action):
        if self.fault == "crash" and not isinstance(action, str):
            raise TypeError(action)
        if self.fault == "after end":
            self._running = True
        observation, reward, terminated, truncated, info = super().step(action)
        if self.fault == "global rng":
            import random

            observation += str(random.random())
        if self.fault == "reason":
            info["truncation_reason"] = None
        if self.fault == "valid":
            info["action_valid"], info["action_error"] = True, None
        if self.fault == "space":
            observation = observation.encode()
        return observation, reward, terminated, truncated, info

    def task_ids(self, split, limit=None):
        return super().task_ids(split)[:limit] if self.fault == "limit" else super().task_ids(split, limit)

    def data_hash(self, task_id):
        return "" if self.fault == "data hash" else super().data_hash(task_id)

    def close(self):
        if self.fault != "close":
            super().close()

    def set_state(self, state):
        if self.fault == "half set":
            self._room = 1
        super().set_state(state)

    def __deepcopy__(self, memo):
        return self if self.fault == "copy" else ToyEnv.__reduce_ex__(self, 4)

    def render(self):
        return super().render().replace("&lt;", "<") if self.fault == "render" else super().render()


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("options", "options"),
        ("seed", "gymnasium"),
        ("keys", "reset and step"),
        ("crash", "bad actions"),
        ("after end", "order of calls"),
        ("close", "order of calls"),
        ("limit", "options"),
        ("data hash", "options"),
        ("global rng", "determinism"),
        ("reason", "step limit"),
        ("valid", "bad actions"),
        ("space", "reset and step"),
        ("half set", "snapshots"),
        ("copy", "copies"),
        ("render", "rendering"),
    ],
)
def test_the_checks_notice(fault, check, monkeypatch):
    monkeypatch.setattr(_Broken, "fault", fault)
    gym.register(id="test/Broken-v0", entry_point=_Broken, order_enforce=False, disable_env_checker=True)
    try:
        failed = {result.name for result in run_checks(gym.make("test/Broken-v0")) if result.error}
        assert check in failed
        with pytest.raises(ContractError, match=check):
            check_text_env(gym.make("test/Broken-v0"))
    finally:
        del gym.registry["test/Broken-v0"]


def test_what_is_no_text_env_is_said_to_be_none():
    with pytest.raises(ContractError, match="not a TextEnv"):
        check_text_env(gym.make("CartPole-v1"))

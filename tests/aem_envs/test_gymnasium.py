"""Every registered environment under Gymnasium's own tools: checker, wrappers, vector environments."""

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import Autoreset, OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorStatistics
from swe_rooms import needs_any

import aem_envs
from aem_envs.webshop.browser.process import BrowserMissingError

SLOW = ("aem/WebShopBrowser-v0", "aem/SWEBench-v0")
ENVS = [pytest.param(env_id, marks=[pytest.mark.slow] * (env_id in SLOW)) for env_id in aem_envs.env_ids()]
QUICK = [env_id for env_id in aem_envs.env_ids() if env_id not in SLOW]
LIMIT = 2
"""Actions of an episode: the second one truncates."""
ODD = "é𝄞 no such thing"
"""An action that no environment knows, with characters that Gymnasium's own spaces of texts refuse."""


def few(env_id: str) -> dict[str, str]:
    """Settings with which few repositories are to be fetched."""
    return {"split": "dev"} if "SWE" in env_id else {}


def made(env_id: str) -> gym.Env[str, str]:
    if "SWE" in env_id:
        needs_any()
    try:
        return gym.make(env_id, max_steps=LIMIT, **few(env_id))
    except BrowserMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(params=ENVS)
def env(request: pytest.FixtureRequest) -> Iterator[gym.Env[str, str]]:
    env = made(request.param)
    yield env
    env.close()


def end(env: gym.Env[str, str]) -> dict[str, Any]:
    """Play an episode up to the step limit; its last `info`."""
    env.reset(seed=3)
    for step in range(1, LIMIT + 1):
        _, _, terminated, truncated, info = env.step(ODD)
        assert (terminated, truncated) == (False, step == LIMIT)
    return info


@pytest.mark.parametrize("env", QUICK, indirect=True)
def test_check_env_finds_nothing(env: gym.Env[str, str]) -> None:
    """Not even a warning. The heavy environments pass it in the tests of the contract."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def test_wrappers_see_episodes(env: gym.Env[str, str]) -> None:
    """In the order of `gym.make`, and statistics outside; the reason for the end passes through."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped = RecordEpisodeStatistics(OrderEnforcing(PassiveEnvChecker(env.unwrapped)))
        with pytest.raises(gym.error.ResetNeeded):
            wrapped.step(ODD)
        for _ in range(2):
            info = end(wrapped)
            assert (info["episode"]["l"], info["episode"]["r"]) == (LIMIT, 0.0)
            assert info["truncation_reason"] == "max_steps"
        assert list(wrapped.length_queue) == [LIMIT] * 2


@pytest.mark.parametrize("env", QUICK, indirect=True)
def test_a_time_limit_outside_truncates_too(env: gym.Env[str, str]) -> None:
    """It knows no reason: `info` says that the environment itself did not end."""
    limited = TimeLimit(env.unwrapped, max_episode_steps=1)
    limited.reset(seed=3)
    _, _, terminated, truncated, info = limited.step(ODD)
    assert truncated and not terminated and info["truncation_reason"] is None


@pytest.mark.parametrize("env", QUICK, indirect=True)
def test_autoreset_begins_the_next_episode(env: gym.Env[str, str]) -> None:
    again = Autoreset(env)
    assert end(again)["steps"] == LIMIT
    _, reward, terminated, truncated, info = again.step("ignored")
    assert (reward, terminated, truncated, info["steps"]) == (0.0, False, False, 0)


def vector(env_id: str, mode: str, autoreset: AutoresetMode, **options: Any) -> gym.vector.VectorEnv:
    if env_id in SLOW:
        made(env_id).close()  # skips where it cannot be had
    kwargs = {"autoreset_mode": autoreset, **options}
    return gym.make_vec(
        env_id, num_envs=2, vectorization_mode=mode, vector_kwargs=kwargs, max_steps=LIMIT, **few(env_id)
    )


@pytest.mark.parametrize("env_id", ENVS)
@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_vector_environments(env_id: str, autoreset: AutoresetMode) -> None:
    envs = vector(env_id, "sync", autoreset)
    try:
        play(envs, autoreset)
    finally:
        envs.close()


@pytest.mark.parametrize("env_id", QUICK)
@pytest.mark.parametrize("shared", [True, False], ids=["shared memory", "pipes"])
@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_vector_environments_in_processes(env_id: str, shared: bool, autoreset: AutoresetMode) -> None:
    envs = vector(env_id, "async", autoreset, shared_memory=shared)
    try:
        play(envs, autoreset)
    finally:
        envs.close()


@pytest.mark.slow
@pytest.mark.parametrize("env_id", SLOW)
def test_heavy_vector_environments_in_processes(env_id: str) -> None:
    """One way each: a browser and a sandbox in every process."""
    envs = vector(env_id, "async", AutoresetMode.NEXT_STEP, context="spawn")
    try:
        play(envs, AutoresetMode.NEXT_STEP)
    finally:
        envs.close()


def play(envs: gym.vector.VectorEnv, autoreset: AutoresetMode) -> None:
    """Two environments to their limit and into the next episode."""
    assert envs.metadata["autoreset_mode"] == autoreset
    observations, info = envs.reset(seed=5)
    assert len(observations) == 2 and all(observations) and info["seed"].tolist() == [5, 6]
    envs.step([ODD] * 2)
    ended, rewards, terminated, truncated, info = envs.step([ODD] * 2)
    assert rewards.tolist() == [0.0] * 2 and not terminated.any() and truncated.all()
    last = info["final_info"] if autoreset == AutoresetMode.SAME_STEP else info
    assert list(last["truncation_reason"]) == ["max_steps"] * 2 and last["steps"].tolist() == [LIMIT] * 2
    if autoreset == AutoresetMode.NEXT_STEP:
        _, _, _, truncated, info = envs.step(["ignored"] * 2)
        assert not truncated.any()
    elif autoreset == AutoresetMode.DISABLED:
        _, info = envs.reset(options={"reset_mask": np.array([True, True])})
    else:
        assert all(info["final_obs"]) and all(ended)
    assert info["steps"].tolist() == [0] * 2
    *_, info = envs.step([ODD] * 2)
    assert info["steps"].tolist() == [1] * 2


@pytest.mark.parametrize("env_id", QUICK)
def test_statistics_of_vector_environments(env_id: str) -> None:
    envs = RecordVectorStatistics(vector(env_id, "sync", AutoresetMode.NEXT_STEP))
    try:
        envs.reset(seed=5)
        envs.step([ODD] * 2)
        *_, info = envs.step([ODD] * 2)
        assert info["episode"]["l"].tolist() == [LIMIT] * 2 and info["episode"]["r"].tolist() == [0.0] * 2
    finally:
        envs.close()

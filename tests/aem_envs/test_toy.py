"""The toy: splits, an expert that wins in the fewest steps, failure as termination."""

import copy
import json
from collections import deque

import gymnasium as gym
import pytest

import aem_envs
from aem_envs import BadOptionError, BadStateError, ResetNeededError
from aem_envs.toy import ToyEnv, corridors


def _fewest_steps(env, task_id):
    """Breadth-first search over snapshots."""
    _, info = env.reset(options={"task_id": task_id})
    queue, seen = deque([(env.get_state(), info["admissible_actions"], 0)]), {info["anchor"]}
    while queue:
        state, actions, depth = queue.popleft()
        for action in actions:
            env.set_state(state)
            *_, info = env.step(action)
            if info["won"]:
                return depth + 1
            if info["anchor"] not in seen and info["admissible_actions"]:
                seen.add(info["anchor"])
                queue.append((env.get_state(), info["admissible_actions"], depth + 1))
    raise AssertionError(f"{task_id} cannot be won")


def _play(env, expert, task_id, seed=0):
    observation, info = env.reset(seed=seed, options={"task_id": task_id})
    expert.reset(env, observation, info)
    actions, done = [], False
    while not done:
        actions.append(expert.act(observation, info))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        done = terminated or truncated
    return actions, reward, info


def test_splits_are_fixed_and_disjoint():
    tasks = corridors()
    assert {split: len(found) for split, found in tasks.items()} == {"train": 87, "test": 29}
    assert not tasks["train"].keys() & tasks["test"].keys()
    assert {task.task_type for task in tasks["test"].values()} == {"walk", "unlock"}


def test_the_expert_wins_every_task_in_the_fewest_steps():
    env = gym.make("aem/Toy-v0").unwrapped
    expert = aem_envs.make_expert("aem/Toy-v0")
    for task_id in [*env.task_ids("test"), *env.task_ids("train", 20)]:
        actions, reward, info = _play(env, expert, task_id)
        assert info["won"] and reward == 1.0 and len(actions) == _fewest_steps(env, task_id), task_id


def test_closing_ends_the_episode_and_a_reset_starts_another():
    env = gym.make("aem/Toy-v0").unwrapped
    env.reset(seed=0)
    env.close()
    with pytest.raises(ResetNeededError):
        env.step("go east")
    with pytest.raises(BadStateError):
        env.get_state()
    assert env.reset(seed=0)[1]["steps"] == 0


@pytest.mark.parametrize("env_id", ["aem/Toy-v0", "aem/ALFWorld-v0"])
def test_a_running_snapshot_has_a_step_left(env_id):
    env = aem_envs.make_env(env_id, max_steps=2)
    env.reset(seed=0)
    env.step("look")
    state = json.loads(env.get_state())
    env.set_state(json.dumps(state).encode())
    for steps, running in ((2, True), (3, True), (3, False)):
        with pytest.raises(BadStateError, match="steps"):
            env.set_state(json.dumps(state | {"steps": steps, "running": running}).encode())
    env.set_state(json.dumps(state | {"steps": 2, "running": False}).encode())
    with pytest.raises(ResetNeededError):
        env.step("look")


def test_noise_depends_on_the_seeds_only():
    env = gym.make("aem/Toy-v0").unwrapped
    task = env.task_ids("train")[-1]
    noisy = aem_envs.make_expert("aem/Toy-v0", noise=0.5, seed=1)
    first = _play(env, noisy, task)[0]
    assert _play(env, noisy, task)[0] == first != _play(env, noisy, task, seed=1)[0]


def test_the_wrong_chest_ends_the_episode_in_failure():
    env = gym.make("aem/Toy-v0")
    env.reset(options={"task_id": "rooms3-start2-red"})
    env.step("go east")
    observation, reward, terminated, truncated, info = env.step("open blue chest")
    assert (observation, reward, terminated, truncated) == ("You open the blue chest.", 0.0, True, False)
    assert not info["won"] and info["action_valid"] and info["admissible_actions"] == []
    with pytest.raises(aem_envs.ResetNeededError, match="ended"):
        env.step("go west")


def test_the_door_is_locked_until_unlocked():
    env = gym.make("aem/Toy-v0")
    env.reset(options={"task_id": "rooms3-start1-red-key1-door1"})
    *_, info = env.step("go east")
    assert info["action_valid"] is False and info["admissible_actions"] == ["take key"]
    env.step("take key")
    env.step("unlock door")
    assert env.step("GO  east")[0] == "You are in room 2 of 3."


@pytest.mark.parametrize("options", [["train"], "train", {1: 2}])
def test_options_are_a_dict_of_known_names(options):
    with pytest.raises(BadOptionError, match="option"):
        ToyEnv().reset(options=options)


def test_a_seed_that_gymnasium_takes_can_be_copied():
    env = ToyEnv()
    env.reset(seed=True)
    assert copy.deepcopy(env).step("look")[4]["seed"] == 1


def test_every_unseeded_episode_can_be_repeated():
    first, again = gym.make("aem/Toy-v0"), gym.make("aem/Toy-v0")
    observation, info = first.reset()
    assert again.reset(seed=info["seed"])[0] == observation


@pytest.mark.parametrize("settings", [{"max_steps": 0}, {"max_steps": True}, {"split": "valid"}, {"render_mode": "x"}])
def test_bad_arguments_are_refused(settings):
    with pytest.raises(aem_envs.BadOptionError):
        aem_envs.make_env("aem/Toy-v0", **settings)


def test_human_rendering_prints_as_it_happens(capsys):
    env = gym.make("aem/Toy-v0", render_mode="human")
    env.reset(seed=0)
    env.step("\x1b[2J")
    assert "> ␛[2J\nNothing happens." in capsys.readouterr().out

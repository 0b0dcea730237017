"""`gym.make_vec`: sync and async, fork and spawn, every autoreset mode, texts of any language in shared memory."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from aem_envs import FreeText
from aem_envs.shared_text import SLOT, SharedTexts, TextTooLongError, _create, _write
from aem_envs.toy import ToyEnv

TASKS = ("rooms3-start2-red", "rooms4-start1-blue")


class PolyglotEnv(ToyEnv):
    """A toy whose texts leave every alphabet of Gymnasium's."""

    def _look(self):
        return "é𝄞\x00 " + super()._look()


def _vector(env_id, mode, autoreset=AutoresetMode.NEXT_STEP, **kwargs):
    context = kwargs.pop("context", None)
    vector_kwargs = {"autoreset_mode": autoreset, **({"context": context} if context else {})}
    return gym.make_vec(env_id, num_envs=2, vectorization_mode=mode, vector_kwargs=vector_kwargs, **kwargs)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_autoreset_modes(mode, autoreset):
    """Two environments with two actions each; only the first one's task is over within them."""
    vector = _vector("aem/Toy-v0", mode, autoreset, max_steps=9)
    try:
        vector.reset(seed=[1, None])
        _, infos = vector.reset(seed=[3, 4], options={"task_id": TASKS[0]})
        assert infos["task_id"].tolist() == [TASKS[0]] * 2 and infos["seed"].tolist() == [3, 4]
        vector.step(["go east", "nonsense"])
        observations, rewards, terminated, truncated, infos = vector.step(["open red chest", "nonsense"])
        assert (rewards.tolist(), terminated.tolist(), truncated.tolist()) == (
            [1.0, 0.0],
            [True, False],
            [False, False],
        )
        if autoreset == AutoresetMode.SAME_STEP:
            assert infos["final_obs"][0] == "You open the red chest." and infos["final_info"]["won"][0]
            assert "Your task" in observations[0] and infos["steps"].tolist() == [0, 2]
            return
        assert observations[0] == "You open the red chest." and infos["won"].tolist() == [True, False]
        if autoreset == AutoresetMode.DISABLED:
            observations, infos = vector.reset(options={"reset_mask": np.array([True, False]), "task_id": TASKS[1]})
            assert "Your task" in observations[0] and observations[1] == "Nothing happens."
        else:
            observations, _, terminated, _, infos = vector.step(["ignored", "nonsense"])
            assert "Your task" in observations[0] and not terminated.any() and infos["steps"].tolist() == [0, 3]
    finally:
        vector.close()


@pytest.mark.parametrize("env_id", ["aem/Toy-v0", "aem/ALFWorld-v0"])
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_async_equals_sync(env_id, context):
    def play(vector):
        try:
            observations, infos = vector.reset(seed=5)
            records = [(tuple(observations), infos["anchor"].tolist())]
            for turn in range(6):
                actions = [listed[turn % len(listed)] for listed in infos["admissible_actions"]]
                observations, *_, infos = vector.step(actions)
                records.append((tuple(observations), infos["anchor"].tolist()))
            return records
        finally:
            vector.close()

    assert play(_vector(env_id, "async", context=context)) == play(_vector(env_id, "sync"))


def test_texts_of_any_alphabet_pass_through_shared_memory():
    gym.register(id="test/Polyglot-v0", entry_point=PolyglotEnv, order_enforce=False, disable_env_checker=True)
    try:
        vector = _vector("test/Polyglot-v0", "async", context="fork")
        observations, _ = vector.reset(seed=0)
        assert all(text.startswith("é𝄞\x00 You are") for text in observations)
        observations, *_ = vector.step(["é", "\ud800"])
        assert observations == ("Nothing happens.",) * 2
        vector.close()
    finally:
        del gym.registry["test/Polyglot-v0"]


def test_shared_texts_are_a_sequence():
    import multiprocessing

    memory = _create(FreeText(), 3, multiprocessing)
    texts = SharedTexts(memory, 3)
    assert texts == ("", "", "")
    _write(FreeText(), 1, "long text", memory)
    _write(FreeText(), 1, "é", memory)
    _write(FreeText(), 2, "x" * (SLOT - 4), memory)
    assert texts[1] == "é" and texts[-2:] == ("é", texts[2]) and len(texts[2]) == SLOT - 4 and len(texts) == 3
    with pytest.raises(TextTooLongError, match="shared_memory"):
        _write(FreeText(), 0, "x" * SLOT, memory)
    with pytest.raises(IndexError):
        texts[3]

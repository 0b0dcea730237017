"""`EnvRollout` without TRL: what it refuses, its seeds, and how an episode becomes a row of TRL's batch."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aem_agent.agent_config import AgentConfig
from aem_agent.types import Episode, Response, Turn
from trainer.adapters.trl_env import COLUMNS, EnvRollout, EnvRolloutError, _fields, env_reward, joined

TASK = "rooms3-start2-red"


class Fake(SimpleNamespace):
    """One that can be held weakly, as TRL's trainers."""

    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


def fake_trainer(**settings: Any) -> Any:
    """As much of a trainer as is looked at before anything is sampled."""
    plain = {"use_vllm": False, "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None}
    return Fake(
        args=SimpleNamespace(**{**plain, "seed": 3, **settings}),
        state=SimpleNamespace(global_step=0),
        accelerator=SimpleNamespace(process_index=0),
        model=torch.nn.Linear(1, 1).train(),
        is_fsdp_enabled=False,
        is_deepspeed_enabled=False,
    )


def test_seeds_are_of_the_trainer_the_update_and_the_process() -> None:
    rollout = EnvRollout("aem/Toy-v0")
    trainer = fake_trainer()
    seeds = [rollout._seed(trainer, True)]
    assert rollout._seed(fake_trainer(), True) == seeds[0]  # the same run again
    seeds += [rollout._seed(trainer, training) for training in (True, False)]
    trainer.accelerator.process_index = 1
    seeds.append(rollout._seed(trainer, True))
    trainer.state.global_step = 1
    seeds.append(rollout._seed(trainer, True))
    assert len(set(seeds)) == 5
    rollout.close()


@pytest.mark.parametrize(
    "setting", [{"top_k": 5}, {"min_p": 0.1}, {"use_vllm": True}, {"repetition_penalty": 1.2}], ids=str
)
def test_what_would_sample_otherwise_is_refused(setting: dict[str, Any]) -> None:
    rollout = EnvRollout("aem/Toy-v0")
    trainer = fake_trainer(**setting)
    with pytest.raises(EnvRolloutError, match=next(iter(setting))):
        rollout([TASK], trainer)
    assert trainer.model.training
    rollout.close()


@pytest.mark.parametrize("prompt", ["plain", "think-action"])
def test_prompts_that_do_not_extend_are_refused(prompt: str) -> None:
    with pytest.raises(EnvRolloutError, match="plain-full"):
        EnvRollout("aem/Toy-v0", agent=AgentConfig(prompt=prompt))


@pytest.mark.parametrize("env_id", ["aem/ALFWorld-v0", "aem/WebShop-v0"])
def test_the_environments_list_their_tasks(env_id: str) -> None:
    pytest.importorskip("datasets")
    rollout = EnvRollout(env_id)
    rows = rollout.dataset("train", 3)
    assert rows["prompt"][:] == list(rollout._env.task_ids("train", 3))
    rollout.close()


def turn(
    prompt: tuple[int, ...], said: tuple[int, ...], logprobs: tuple[float, ...] | None = None, **more: Any
) -> Turn:
    return Turn("", Response("", said, logprobs), "", prompt, **more)


def episode(*turns: Turn, **more: Any) -> Episode:
    return Episode("e", "t", "", "train", 0, 0, turns, **more)


def test_turns_are_joined() -> None:
    turns = (turn((1, 2), (3, 4), (-0.1, -0.2)), turn((1, 2, 3, 4, 5), (6,), (-0.3,)))
    found = joined(episode(*turns, terminated=True), 9)
    assert found.prompt == (1, 2)
    assert found.completion == (3, 4, 5, 6, 9)
    assert found.mask == (1, 1, 0, 1, 0)
    assert found.logprobs == (-0.1, -0.2, 0, -0.3, 0)
    assert not found.cut
    assert joined(episode(*turns, truncated=True), 9).completion == (3, 4, 5, 6)  # no end: a limit ended it
    overflow = joined(episode(*turns, turn((1, 2, 5, 6, 7), (8,)), terminated=True), 9)
    assert overflow.completion == (3, 4, 5, 6) and overflow.cut


@pytest.mark.parametrize("last", [0, 1, 6], ids=["end", "another end", "no end"])
def test_an_episode_that_did_not_end_looks_like_it(last: int) -> None:
    turns = (turn((3,), (4, 0), (-0.1, -0.2)), turn((3, 4, 0, 5), (last,), (-0.3,)))
    more = () if last == 6 else (2,)  # the first id that ends nothing
    found = joined(episode(*turns, truncated=True), 0, {0, 1})
    assert found.completion == (4, 0, 5, last, *more)
    assert found.mask == (1, 1, 0, 1, *(0 for _ in more))
    assert found.logprobs == (-0.1, -0.2, 0, -0.3, *(0 for _ in more))
    overflow = joined(episode(*turns, turn((3, 9), (8,)), terminated=True), 0, {0, 1})
    assert overflow.completion == found.completion and overflow.cut
    assert joined(episode(*turns, terminated=True), 0, {0, 1}).completion == (4, 0, 5, last, 0)


def test_broken_episodes_have_no_reward() -> None:
    won = episode(turn((1,), (2, 3), action_valid=False), terminated=True, return_=0.5, won=True)
    fields = _fields([won, episode(error="PoolError: gone")], 9)
    assert fields["prompt_ids"] == [[1], [9]] and fields["completion_ids"] == [[2, 3, 9], [9]]
    assert fields["env_mask"] == [[1, 1, 0], [0]] and fields["logprobs"] == [[0, 0, 0], [0]]
    assert [fields[name] for name in COLUMNS] == [[0.5, None], [True, None], [1, None], [1, None], [False, None]]
    logged: dict[str, float] = {}
    rewards = env_reward(["", ""], log_metric=logged.__setitem__, **fields)
    assert rewards == [0.5, None]
    assert logged == {"env/won": 1, "env/turns": 1, "env/invalid": 1, "env/cut": 0}


def test_a_batch_without_any_episode_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = EnvRollout("aem/Toy-v0")

    class Policy:
        needs_env = trainable = False

        def with_sampling(self, **_: Any) -> "Policy":
            return self

        def start(self, *_: Any) -> Any:
            raise RuntimeError("no engine")

    trainer = fake_trainer()
    trainer.temperature = trainer.top_p = 1.0
    monkeypatch.setattr(rollout, "_policy_of", lambda trainer: Policy())
    with pytest.raises(EnvRolloutError, match="no engine"):
        rollout([TASK] * 2, trainer)
    rollout.close()

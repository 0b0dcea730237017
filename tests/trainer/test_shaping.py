"""Overlong shaping: the ramp by hand, and what sees it."""

import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parent))
import mixed_env  # noqa: F401  # registers test/Mixed-v0
from helpers import quick, quiet
from test_aem_in_the_loop import Recorded
from test_estimators import signals

from trainer import loop
from trainer.config import ConfigError
from trainer.runs import new_run
from trainer.shaping import overlong_penalty, shape


def test_the_penalty_by_hand() -> None:
    """L = 10, C = 4: free up to 6 tokens, then a quarter for each, all from 10 on."""
    lengths = torch.tensor([0, 5, 6, 7, 8, 9, 10, 11, 500])
    expected = torch.tensor([0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert_close(overlong_penalty(lengths, 10, 4), expected)


def test_returns_and_last_rewards_fall_alike() -> None:
    # The episodes have 3, 1 and 3 tokens. L = 4, C = 2: a half, nothing, a half, of 10.
    before = signals()
    after, metrics = shape(before, limit=4, buffer=2, scale=10.0)
    assert_close(after.returns, torch.tensor([3.0, 0.0, -1.0]))
    assert_close(after.rewards, torch.tensor([0.0, 3.0, 0.0, 0.0, -1.0]))
    assert_close(metrics["overlong_share"], torch.tensor(2 / 3))
    assert_close(metrics["overlong_penalty"], torch.tensor(10 / 3))
    assert before.returns.tolist() == [8.0, 0.0, 4.0]
    same, none = shape(before, limit=None)
    assert same is before and none == {}


def test_advantages_see_it_and_the_reported_return_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("env.id=test/Mixed-v0", "warmstart.steps=0", "rollout.tasks=3", "rollout.reward_scale=2")
    records, seen = [], []
    for further in ((), ("algorithm.overlong_limit=6", "algorithm.overlong_buffer=3")):
        with monkeypatch.context() as patch:
            shaped = Recorded(patch, loop, "shape")
            with new_run(quick(*settings, *further), tmp_path / str(len(records)), quiet()) as session:
                records.append(loop.rl_step(session, 0))
            seen.append(shaped.result[0])
    plain, other = records
    assert float(plain["return_mean"]) == float(other["return_mean"])
    assert float(other["overlong_penalty"]) == pytest.approx(2.0)  # all are far beyond: the whole scale
    assert "overlong_penalty" not in plain
    assert_close(seen[1].returns, seen[0].returns - 2.0)


def test_a_buffer_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="overlong_buffer=1024 must not be above"):
        quick("algorithm.overlong_limit=100")
